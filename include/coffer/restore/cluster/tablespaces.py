"""Where the tablespaces of a cluster go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from coffer.errors import RestoreTargetError, UsageError
from coffer.postgres.record import ClusterRecord
from coffer.repository.manifest import ManifestReader
from coffer.restore.cluster.spec import ClusterRestoreOptions

FOLDER = b"pg_tblspc"


def tablespaces_of(manifest: ManifestReader, record: ClusterRecord) -> dict[int, str]:
    """Return OID -> where it lay on the server, of the tablespaces that have a place of their own.

    One that a developer's setting puts into the data folder itself (allow_in_place_tablespaces) stays there.
    """
    found = dict(record.tablespaces)
    for entry in manifest.children(FOLDER):
        if entry.name.isdigit():
            found.setdefault(int(entry.name), "")
    return {oid: place for oid, place in sorted(found.items()) if not place or place.startswith("/")}


def map_tablespaces(
    places: Mapping[int, str], target: Path, options: ClusterRestoreOptions, there: Mapping[int, Path]
) -> dict[int, Path]:
    """Return OID -> folder.

    Args:
        places: OID -> where it lay on the server; empty where that is not known.
        target: The data folder.
        options: What the user says.
        there: Where the links of an existing data folder lead; for the hint only.

    Raises:
        UsageError: A tablespace is named that there is none of, or twice.
        RestoreTargetError: A tablespace has no place, or one that it cannot have. Nothing was written.
    """
    named = _named(places, options.tablespaces)
    found: dict[int, Path] = {}
    for oid, place in places.items():
        if oid in named:
            folder = named[oid]
        elif options.tablespaces_below is not None:
            folder = options.tablespaces_below / str(oid)
        elif options.tablespaces_in_place and place:
            folder = Path(place)
        else:
            # Not where the links of an existing folder lead: in a copy of a data folder that is the original's place.
            raise _no_place(oid, place, there.get(oid))
        found[oid] = Path(os.path.realpath(folder))
    _refuse_overlaps(found, target)
    return found


def _named(places: Mapping[int, str], given: Mapping[str, Path]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for key, folder in given.items():
        if key.isdecimal():
            oids = [oid for oid in places if oid == int(key)]
        else:
            oids = [oid for oid, place in places.items() if place and place.rstrip("/") == key.rstrip("/")]
        if not oids:
            known = ", ".join(f"{oid}={place or '?'}" for oid, place in places.items()) or "none"
            raise UsageError(f"tablespace {key}: the snapshot has none of this name", hint=f"It has {known}.")
        if oids[0] in found:
            raise UsageError(f"tablespace {key}: is given twice", hint="Give each tablespace one folder.")
        found[oids[0]] = folder
    return found


def _no_place(oid: int, place: str, there: Path | None) -> RestoreTargetError:
    where = f", which was {place} on the server," if place else ""
    hint = f"Give --tablespace {oid}=/new/folder, or --tablespaces-below DIR for all of them."
    if place and not os.path.lexists(place):
        hint += " Or --tablespaces-in-place: the server's own places are free here."
    elif place:
        hint += f" {place} exists here and is not touched without being told."
    if there is not None:
        hint += f" The link in the data folder leads to {there}: name that only if no other data folder uses it."
    return RestoreTargetError(f"tablespace {oid}{where} has no place in the restore", hint=hint, tablespace=oid)


def _refuse_overlaps(found: Mapping[int, Path], target: Path) -> None:
    taken: list[tuple[str, Path]] = [("the data folder", target)]
    for oid, folder in found.items():
        for what, other in taken:
            if folder == other or other in folder.parents or folder in other.parents:
                raise RestoreTargetError(
                    f"tablespace {oid}: {folder} and {what}, {other}, lie in one another",
                    hint="Give each tablespace a folder of its own, outside the data folder.",
                )
        taken.append((f"tablespace {oid}", folder))


def links_of(target: Path) -> dict[int, Path]:
    """Return where the tablespaces of an existing data folder are: OID -> what its link says."""
    found: dict[int, Path] = {}
    folder = target / os.fsdecode(FOLDER)
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        link = folder / name
        if name.isdecimal() and link.is_symlink():
            found[int(name)] = Path(os.readlink(link))
    return found

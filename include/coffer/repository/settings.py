"""coffer.json: the only object in the clear; written once (docs/format.md §1).

It says how to get at the keys and how content is cut. It cannot be authenticated before a key is there, so everything
in it is bounded on reading, and every wrapped key is bound to its exact bytes: an edited one opens nothing.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from coffer.backends.base import Backend
from coffer.chunking.cutter import MIB, ChunkParams
from coffer.clock import Clock
from coffer.crypto.kdf import SALT_BYTES, Argon2Params
from coffer.errors import FormatVersionError, NotARepositoryError, ObjectNotFoundError, SizeLimitError
from coffer.ids import REPOSITORY_ID_BYTES, new_repository_id
from coffer.repository.pack import MAX_RAW_BYTES

NAME = "coffer.json"
FORMAT = 1
MAX_OBJECT_BYTES = 64 * 1024  # (I7)


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """What coffer.json says.

    Attributes:
        repository_id: [16 bytes].
        created_ns: [ns since the Unix epoch].
        unlock_kind: "key-file" or "passphrase".
        unlock_salt: For the KEK [32 bytes].
        argon2: Cost of a passphrase.
        chunking: How content is cut.
        raw: The object's exact bytes.
    """

    repository_id: bytes
    created_ns: int
    unlock_kind: str
    unlock_salt: bytes
    argon2: Argon2Params
    chunking: ChunkParams
    raw: bytes


def new_settings(unlock_kind: str, chunking: ChunkParams, argon2: Argon2Params, clock: Clock) -> RepositorySettings:
    """Return the settings of a new repository, with a fresh id and salt.

    Raises:
        SizeLimitError: The sizes are such that no repository could be opened with them.
    """
    _check_cuts(chunking)
    repository_id, salt, created_ns = new_repository_id(), secrets.token_bytes(SALT_BYTES), max(clock.now_ns(), 0)
    document = {
        "object": "coffer-repository",
        "format": FORMAT,
        "id": repository_id.hex(),
        "created_ns": created_ns,
        "unlock": {"kind": unlock_kind, "salt": salt.hex(), "argon2id": asdict(argon2)},
        "chunking": asdict(chunking),
    }
    raw = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    return RepositorySettings(repository_id, created_ns, unlock_kind, salt, argon2, chunking, raw)


def read_settings(backend: Backend) -> RepositorySettings:
    """Read and check coffer.json.

    Raises:
        NotARepositoryError: There is none, or it is not one.
        FormatVersionError: A newer format.
        SizeLimitError: A value is out of its bounds.
    """
    try:
        size_bytes = backend.stat(NAME).size_bytes
        raw = backend.get(NAME, 0, min(size_bytes, MAX_OBJECT_BYTES))
    except ObjectNotFoundError:
        raise NotARepositoryError(f"{backend.url}: holds no coffer repository") from None
    try:
        document = json.loads(raw)
        if document["object"] != "coffer-repository":
            raise ValueError
        version = document["format"]
        if version != FORMAT:
            raise FormatVersionError(f"{backend.url}: repository format {version!r}, this version reads {FORMAT}")
        return _parse(document, raw)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotARepositoryError(f"{backend.url}: coffer.json is damaged, or is not a repository's") from None


def _parse(document: dict[str, Any], raw: bytes) -> RepositorySettings:
    unlock, cuts = document["unlock"], document["chunking"]
    costs = unlock["argon2id"]
    if not all(isinstance(part, dict) for part in (unlock, costs, cuts)):
        raise ValueError
    repository_id, salt = bytes.fromhex(document["id"]), bytes.fromhex(unlock["salt"])
    kind, created_ns = unlock["kind"], document["created_ns"]
    numbers = [*costs.values(), created_ns, *(value for name, value in cuts.items() if name != "method")]
    fits = (
        len(repository_id) == REPOSITORY_ID_BYTES
        and len(salt) == SALT_BYTES
        and isinstance(kind, str)
        and all(type(value) is int and 0 <= value < 1 << 63 for value in numbers)
        and set(costs) == set(Argon2Params.__slots__)
        and set(cuts) == set(ChunkParams.__slots__)
    )
    if not fits:
        raise ValueError
    chunking = ChunkParams(**cuts)
    _check_cuts(chunking)
    return RepositorySettings(repository_id, created_ns, kind, salt, Argon2Params(**costs), chunking, raw)


def _check_cuts(cuts: ChunkParams) -> None:
    # FastCDC's own limits are narrower: pyfastcdc refuses other values, but only once there is a large file to cut.
    bounds = {"cdc": (64, MIB, 256, 4 * MIB, 1024), "fixed": (1, MAX_RAW_BYTES, 1, MAX_RAW_BYTES, 1)}.get(cuts.method)
    if bounds is None:
        raise SizeLimitError(f"coffer.json: chunking method {str(cuts.method)[:20]!r} is neither cdc nor fixed")
    least_min, most_min, least_avg, most_avg, least_max = bounds
    if not (least_min <= cuts.min_bytes <= most_min and least_avg <= cuts.avg_bytes <= most_avg):
        raise SizeLimitError("coffer.json: chunk sizes are out of their bounds or order")
    rising = (1, cuts.min_bytes, cuts.avg_bytes, cuts.max_bytes, MAX_RAW_BYTES)
    bundles = (1, cuts.bundle_below_bytes, cuts.bundle_min_bytes, cuts.bundle_max_bytes, MAX_RAW_BYTES // 2)
    if cuts.max_bytes < least_max or any(a > b for a, b in pairwise(rising)):
        raise SizeLimitError("coffer.json: chunk sizes are out of their bounds or order")
    if cuts.bundle_avg_bytes < 1 or any(a > b for a, b in pairwise(bundles)):
        raise SizeLimitError("coffer.json: bundle sizes are out of their bounds or order")

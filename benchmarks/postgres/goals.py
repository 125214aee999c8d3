"""The PostgreSQL figures that Coffer is to reach, as data."""

from __future__ import annotations

from benchmarks.goals import MIB, Goal, Medians, Verdict

PEAK_AT_MOST_BYTES = 400 * MIB
OWN = ("coffer", "coffer-native")
NATIVE_SINCE = 17  # PostgreSQL's own incremental backup


def goals_of(major: int) -> list[Goal]:
    """Return the goals that a server of version `major` can show."""
    single, chain, wal = (f"pg{major}-{scenario}" for scenario in ("single", "chain", "wal"))
    has_native = major >= NATIVE_SINCE
    goals = [
        Goal(f"{major}: full, wall (0.9 x the limit's MB/s)", single, "full", "wall_s", 1 / 0.9, ("limit",)),
        Goal(f"{major}: full, wall", single, "full", "wall_s", 1.0, ("pgbackrest", "barman")),
        _stored_incremental(major, single),
    ]
    if has_native:
        goals += _native(major, single)
    for tool in OWN if has_native else OWN[:1]:
        goals += _restores(major, tool, single, chain)
        title = f"{major}: stored, 1 full + 6 incrementals"
        goals += [
            Goal(f"{title}{_mode(tool)}", chain, "day-6", "backups_bytes", 0.7, ("pgbackrest",), tool=tool),
            Goal(f"{title}, and all WAL{_mode(tool)}", chain, "day-6", "stored_bytes", 0.7, ("pgbackrest",), tool=tool),
        ]
    return [*goals, Goal(f"{major}: restore command, all segments, wall", wal, "fetch", "wall_s", 1.0, ("pgbackrest",))]


def peak_verdict(medians: Medians) -> Verdict:
    """Return the verdict on the highest of all peaks of Coffer's."""
    own = {cell: figures["peak_bytes"] for cell, figures in medians.items() if cell[2] in OWN}
    highest = max(own, key=lambda cell: own[cell], default=("", "", ""))
    goal = Goal("peak memory, any of these", highest[0], highest[1], "peak_bytes", PEAK_AT_MOST_BYTES, tool=highest[2])
    return Verdict(goal, own.get(highest), None, None, own.get(highest))


def _mode(tool: str) -> str:
    return " (native)" if tool == "coffer-native" else ""


def _stored_incremental(major: int, single: str) -> Goal:
    title = f"{major}: incremental, 1 % of pages changed, stored without WAL"
    return Goal(
        title, single, "changed", "backups_grown_bytes", 1.3, per="zstd_bytes", per_name="changed pages, zstd -3"
    )


def _native(major: int, single: str) -> list[Goal]:
    title, tool = f"{major}: incremental, 1 % of pages changed", "coffer-native"
    return [
        Goal(
            f"{title}, read from the server (native)",
            single,
            "changed",
            "read_bytes",
            1.2,
            per="changed_bytes",
            per_name="changed pages",
            tool=tool,
        ),
        Goal(f"{title}, wall (native)", single, "changed", "wall_s", 0.5, ("pgbackrest",), tool=tool),
    ]


def _restores(major: int, tool: str, single: str, chain: str) -> list[Goal]:
    mode = _mode(tool)
    combine = ("pg_combinebackup",) if major >= NATIVE_SINCE else ()
    rows = [
        ("incremental", single, "restore-changed", combine),
        ("sixth incremental", chain, "restore-sixth", combine),
    ]
    goals = [
        Goal(f"{major}: restore of the full{mode}", single, "restore-full", "wall_s", 1.0, ("pgbackrest",), tool=tool)
    ]
    for name, tree, phase, more in rows:
        title = f"{major}: restore of the {name}{mode}"
        goals.append(Goal(title, tree, phase, "wall_s", 1.0, ("pgbackrest", *more), tool=tool))
    changed = f"{major}: restore of the incremental, beside that of the full{mode}"
    goals.append(
        Goal(changed, single, "restore-changed", "wall_s", 1.1, (tool,), tool=tool, against_phase="restore-full")
    )
    return goals

"""Back up a file tree and a PostgreSQL server through the DAGs, verify, restore elsewhere, and compare all of it.

What it makes lies in var/demo, which it empties first. Exit code: 0 if everything is alike, 1 if anything is not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coffer.cli.main import main as coffer_command  # noqa: E402 - the path above is needed for `demo`, below
from coffer.errors import CofferError, WrongKeyError  # noqa: E402 - as above
from coffer.units import human_duration, human_size  # noqa: E402 - as above
from coffer.verification.compare import Comparison, compare_trees  # noqa: E402 - as above
from demo.airflow_run import load_dag, output_to, run_dag, set_up  # noqa: E402 - as above
from demo.problems import DemoError  # noqa: E402 - as above
from demo.specials import make_specials  # noqa: E402 - as above

_POLICY = """\
# The policy of `make demo`.
timezone: UTC
repository: {{key_file: keys/coffer.key, state_dir: state}}
sources:
  - name: machine
    kind: filesystem
    paths: {machine}
  - name: specials
    kind: filesystem
    paths: [specials]
local_backup:
  locations:
    primary: {{path: repository, retention: "30d", frequency: "daily"}}
performance_config:
  concurrency: {{max_workers: {workers}}}
"""
# Data that packages bring and no program writes to: large enough to be worth a measurement, the user's own.
_STILL = ("botocore/data", "googleapiclient/discovery_cache/documents")
_SHOWN = 20


@dataclass(frozen=True)
class Demo:
    """The folders of one demo.

    Attributes:
        folder: Everything is below it.
    """

    folder: Path

    @property
    def log(self) -> Path:
        """Airflow's lines."""
        return self.folder / "airflow.log"

    @property
    def repository(self) -> Path:
        """The repository."""
        return self.folder / "repository"

    @property
    def target(self) -> Path:
        """Where it is restored to."""
        return self.folder / "restored"

    @property
    def specials(self) -> Path:
        """The generated tree."""
        return self.folder / "specials"


def main() -> int:
    """Run the demo and print what it does.

    Returns:
        int: 0, or 1 with a line that says what is wrong.
    """
    demo = Demo(Path(os.environ.get("COFFER_DEMO_DIR") or ROOT / "var" / "demo").absolute())
    started_s = time.monotonic()
    try:
        run(demo)
    except (DemoError, CofferError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        if isinstance(error, CofferError):
            print(f"HINT: {error.hint}", file=sys.stderr)
        print(f"Airflow's own lines: {demo.log}", file=sys.stderr)
        return 1
    print(
        f"\nAll of it is alike. {human_duration(time.monotonic() - started_s)} in all; everything lies in {demo.folder}"
    )
    return 0


def run(demo: Demo) -> None:
    """Do it, step by step.

    Raises:
        DemoError, CofferError: A step failed.
    """
    empty(demo.folder)
    machine, left_out = machine_paths()
    prepare(demo, machine, left_out)
    with output_to(demo.log):
        set_up(demo.folder / "airflow", ROOT)
        dag = load_dag("filesystem_backup")
    first = backup(demo, dag, "first run", check="data")
    say_first(demo, first)
    second = backup(demo, dag, "second run, nothing changed", check="structure")
    say_second(second)
    restore(demo)
    compare(demo, machine)
    refuse_wrong_key(demo)
    from demo.database_demo import prove_databases

    prove_databases(demo.folder, demo.log)


# ------------------------------------------------------------------------------------------------ before


def empty(folder: Path) -> None:
    """Make the folder anew; refuse one that is not of an earlier demo."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "config" / "coffer.yaml").is_file():
            raise DemoError(f"{folder} is not empty and not of an earlier demo: name another by COFFER_DEMO_DIR")
        for path in folder.rglob("*"):  # a restored folder may forbid its owner to empty it
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def machine_paths() -> tuple[list[Path], int]:
    """Return what of this machine is backed up: data of installed packages, and /etc or as much as the user may read.

    Returns:
        The paths, and how many entries of /etc were left out.
    """
    packages = Path(sysconfig.get_path("purelib"))
    paths = [packages / name for name in _STILL]
    etc = Path("/etc")
    if readable(etc):
        return [etc, *paths], 0
    inside = sorted(etc.iterdir())
    chosen = [path for path in inside if not path.is_symlink() and readable(path)]
    return [*chosen, *paths], len(inside) - len(chosen)


def readable(path: Path) -> bool:
    """Say whether this user may read a file, or a folder and all below it."""
    if not path.is_dir() or path.is_symlink():
        return path.is_symlink() or not stat.S_ISREG(path.lstat().st_mode) or os.access(path, os.R_OK)
    return os.access(path, os.R_OK | os.X_OK) and all(readable(child) for child in path.iterdir())


def prepare(demo: Demo, machine: list[Path], left_out: int) -> None:
    """Make the generated tree, the policy and the repository."""
    missing = make_specials(demo.specials)
    (demo.folder / "config").mkdir()
    policy = demo.folder / "config" / "coffer.yaml"
    names = "".join(f"\n      - {str(path)!r}" for path in machine)
    policy.write_text(_POLICY.format(machine=names, workers=min(8, os.cpu_count() or 1)))
    os.environ["COFFER_POLICY"] = str(policy)
    for name in [name for name in os.environ if name.startswith("COFFER_") and name not in ("COFFER_POLICY",)]:
        del os.environ[name]  # a repository of the user must not be what the demo writes to
    print(f"Sources: /etc and data of installed packages (live), and a tree of special files ({demo.specials})")
    if left_out:
        print(f"  {left_out} entries of /etc are links or may not be read by this user: left out")
    for what in missing:
        print(f"  cannot be made here, so not shown: {what}")
    with output_to(demo.log):
        code = coffer_command(["init"])
    if code:
        raise DemoError("the repository could not be made")
    print(f"Repository: {demo.repository} (encrypted; its key is {demo.folder / 'keys' / 'coffer.key'})")


# ------------------------------------------------------------------------------------------------ the runs


def backup(demo: Demo, dag: Any, title: str, *, check: str) -> dict[str, list[Any]]:
    """Run the DAG and return what its tasks returned, with the time it took.

    Raises:
        DemoError: It failed, or a snapshot is incomplete.
    """
    print(f"\nDAG filesystem_backup, {title} ...", flush=True)
    began_s = time.monotonic()
    with output_to(demo.log):
        state, returned = run_dag(dag, {"ignore_window": True, "check": check})
    if state != "success":
        raise DemoError(f"the DAG run ended as {state}")
    snapshots = returned["snapshot"]
    if not all(snapshot["complete"] for snapshot in snapshots):
        raise DemoError("a snapshot is incomplete: a file could not be read")
    returned["seconds"] = [time.monotonic() - began_s]
    return returned


def say_first(demo: Demo, returned: dict[str, list[Any]]) -> None:
    """Print what the first run did."""
    for snapshot in returned["snapshot"]:
        print(
            f"  snapshot {snapshot['snapshot']} of {snapshot['source']}: {snapshot['files']:,} files,"
            f" {human_size(snapshot['size_bytes'])}, {snapshot['warnings_count']} warnings"
        )
    report, check = returned["report"][0], returned["check"][0]
    stored = sum(path.stat().st_size for path in demo.repository.rglob("*") if path.is_file())
    read = report["read_bytes"]
    print(
        f"  read {human_size(read)}, stored {human_size(stored)} (1 : {read / stored:.1f}),"
        f" in {human_duration(returned['seconds'][0])}"
    )
    print(
        f"  verified: {human_size(check['read_bytes'])} in {check['packs']} packs read again and authenticated,"
        f" {check['chunks_proved']} of {check['chunks']} chunks proved"
    )


def say_second(returned: dict[str, list[Any]]) -> None:
    """Print what the second run did.

    Raises:
        DemoError: It stored content anew.
    """
    report = returned["report"][0]
    print(
        f"  {report['files']:,} files looked at, {human_size(report['read_bytes'])} read,"
        f" {human_size(report['stored_bytes'])} new stored, in {human_duration(returned['seconds'][0])}"
    )
    new = sum(snapshot["files_new"] + snapshot["files_changed"] for snapshot in returned["snapshot"])
    if new:
        raise DemoError(f"{new} files were taken as new or changed, though nothing changed")


def restore(demo: Demo) -> None:
    """Restore both sources through `RestoreOperator`, each to a new folder."""
    from coffer_airflow.operators import RestoreOperator

    print("\nRestoreOperator, to a new folder ...", flush=True)
    for source in ("machine", "specials"):
        operator = RestoreOperator(
            task_id=f"restore_{source}", snapshot=f"latest:{source}", target=str(demo.target / source)
        )
        began_s = time.monotonic()
        with output_to(demo.log):
            done = operator.execute({})
        print(
            f"  {source}: {done['files']:,} files, {done['hardlinks']:,} more hard links,"
            f" {human_size(done['size_bytes'])},"
            f" {done['warnings_count']} warnings, in {human_duration(time.monotonic() - began_s)}"
        )


# ------------------------------------------------------------------------------------------------ the proof


def compare(demo: Demo, machine: list[Path]) -> None:
    """Compare what was restored with the live sources.

    Raises:
        DemoError: Anything differs.
    """
    ignore = () if os.geteuid() == 0 else ("uid", "gid")
    print("\nComparing with the live sources: content, mode, owner, times, xattrs, ACLs, links, holes, devices ...")
    if ignore:
        print("  owners of files that are not this user's cannot be restored by it: uid and gid are not compared")
    pairs = [(path, demo.target / "machine" / str(path).lstrip("/")) for path in machine]
    pairs.append((demo.specials, demo.target / "specials" / str(demo.specials).lstrip("/")))
    began_s = time.monotonic()
    compared = [(source, compare_trees(source, restored, ignore=ignore)) for source, restored in pairs]
    wrong = [line for source, comparison in compared for line in differences(source, comparison)]
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DemoError("what was restored differs from the source:\n  " + "\n  ".join(wrong[:_SHOWN]) + more)
    entries = sum(comparison.entries for _, comparison in compared)
    size = sum(comparison.size_bytes for _, comparison in compared)
    print(f"  {entries:,} entries, {human_size(size)}: no difference, in {human_duration(time.monotonic() - began_s)}")


def differences(source: Path, comparison: Comparison) -> list[str]:
    """Return a line for each difference."""
    return [
        f"{source}/{found.path.decode(errors='backslashreplace')}: {found.what}: {found.expected!r} -> {found.actual!r}"
        for found in comparison.differences
    ]


def refuse_wrong_key(demo: Demo) -> None:
    """Try another key.

    Raises:
        DemoError: It opened the repository.
    """
    from coffer.backends.factory import open_backend
    from coffer.crypto.kek import write_new_key_file
    from coffer.repository.repository import Repository

    other = write_new_key_file(demo.folder / "keys" / "other.key")
    store = open_backend(demo.repository)
    try:
        Repository.open(store, other)
    except WrongKeyError as error:
        print(f"\nAnother key is refused: {error}")
    else:
        raise DemoError("another key opened the repository")
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())

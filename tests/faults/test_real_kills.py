"""kill -9 at every call of a backup into a store on disk: real processes, real files, fsync and all."""

from __future__ import annotations

import pytest

from tests.harness.programs import run_program

# One process per kill: it opens the store, backs up, and dies before or after one of its calls. Then this process
# looks at what is left, backs up again, restores that, and compares it with the tree.
KILL_AT_CALLS = """
    import os, shutil, signal, sys
    from pathlib import Path
    from coffer.backends.local import LocalBackend
    from coffer.repository.repository import Repository
    from coffer.restore import restore
    from coffer.verification.compare import compare_trees
    from tests.faults.scenarios import SCENARIOS, Scenario
    from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
    from tests.harness.snapshots import KEY, disk_tree
    from tests.harness.soundness import assert_sound

    base, name, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    scenario = SCENARIOS[name](base / "source")
    local = LocalBackend(base / "store", create=True)
    for info in scenario.store.list():
        local.put(info.name, [scenario.store.get(info.name)])
    local.close()

    def state_in(folder):
        shutil.copytree(base / "store", folder)
        copy = scenario.copy()
        return copy, LocalBackend(folder)

    copy, store = state_in(base / "count")
    counting = FaultyBackend(store)
    copy.back_up(copy.open(counting))
    killed = 0
    for number in range(0, counting.call_count, step):
        for kind in (FaultKind.SIGKILL_BEFORE, FaultKind.SIGKILL_AFTER):
            folder = base / f"{number}-{kind.name}"
            state, store = state_in(folder)
            child = os.fork()
            if child == 0:
                state.back_up(state.open(FaultyBackend(store, [Fault(kind, call=number)])))
                os._exit(1)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (number, kind, status)
            killed += 1
            before = assert_sound(store, state.expected, state.root)
            again = state.back_up(state.open(store))
            state.expected[again.snapshot.name] = disk_tree(state.root)
            after = assert_sound(store, state.expected, state.root)
            assert len(before) + 1 == len(after)
            assert [] == [path for path in (folder / ".tmp").iterdir()], "temporaries of the dead are swept"
            target = base / "restored"
            restored = restore(Repository.open(store, KEY), again.snapshot, target)
            assert restored.failures_count == 0, restored.failures
            assert os.geteuid() != 0 or restored.exit_code == 0, restored.warnings  # others cannot give files away
            comparison = compare_trees(state.root, target / str(state.root).lstrip("/"))
            assert comparison.ok, comparison.differences
            shutil.rmtree(target)
            store.close()
            shutil.rmtree(folder)
    print(f"{killed} kills")
"""


def _kill(tmp_path, scenario, step):
    ended = run_program(KILL_AT_CALLS, str(tmp_path), scenario, str(step))
    assert (0, "") == (ended.returncode, ended.stderr)
    assert ended.stdout.endswith(" kills\n")
    print(ended.stdout)


def test_a_real_kill_at_every_third_call_leaves_a_sound_repository(tmp_path):
    """A second backup, killed before and after its calls by the kernel."""
    _kill(tmp_path, "second", 3)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["first", "second", "resumed", "after a kill", "long"])
def test_a_real_kill_at_every_call_leaves_a_sound_repository(tmp_path, scenario):
    """Each scenario, each call, before and after its effect."""
    _kill(tmp_path, scenario, 1)

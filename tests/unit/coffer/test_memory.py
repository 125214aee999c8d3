"""The settings of a process's memory, in processes of their own."""

from tests.harness.programs import run_program


def test_tuning_may_be_repeated_and_makes_collections_rare():
    """Twice is as good as once; what the program made so far is looked at no more."""
    ended = run_program(
        """
        import gc
        from coffer.memory import tune_process
        tune_process()
        tune_process()
        print(gc.get_threshold()[0] >= 100_000, gc.get_freeze_count() > 1000)
        """
    )
    assert "True True\n" == ended.stdout, ended.stderr


def test_a_machine_without_glibc_is_left_as_it_is():
    """Where there is no mallopt the rest is set all the same, and nothing is raised."""
    ended = run_program(
        """
        import ctypes, gc
        from coffer import memory
        class NoLibrary:
            def __init__(self, name):
                pass
        def refuse(name):
            raise OSError("no such library")
        for stand_in in (NoLibrary, refuse):
            ctypes.CDLL = stand_in
            memory.tune_process()
        print(gc.get_threshold()[0] >= 100_000)
        """
    )
    assert "True\n" == ended.stdout, ended.stderr

"""The local store on real limits: file sizes, permissions, full, read-only and unmounted disks."""

from __future__ import annotations

import os
import resource

import pytest

from tests.harness.namespaces import own_mounts
from tests.harness.programs import run_program


class TestRealLimits:
    def test_a_limit_on_file_size_is_a_full_store(self, tmp_path):
        """RLIMIT_FSIZE, as set by `ulimit -f`, ends a put as 'full', with a hint at limits; nothing is left."""
        program = """
            import resource, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendFullError

            store = LocalBackend(Path(sys.argv[1]), create=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            try:
                store.put("packs/ab/1", [b"x" * (3 << 20)])
            except BackendFullError as error:
                print(error, error.hint)
            print([info.name for info in store.list()])
            store.put("packs/ab/2", [b"x"])
        """
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] in (resource.RLIM_INFINITY, -1)

        done = run_program(program, str(tmp_path / "store"))

        assert 0 == done.returncode, done.stderr
        assert "EFBIG" in done.stdout
        assert "ulimit -f" in done.stdout
        assert "\n[]\n" in done.stdout
        assert [] == os.listdir(tmp_path / "store/.tmp")

    def test_a_folder_without_permission_is_an_access_error(self, tmp_path):
        """A user who may not write or read the store (here nobody, or oneself after chmod) is told so."""
        program = """
            import os, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendAccessError

            root = Path(sys.argv[1])
            store = LocalBackend(root, create=True)
            store.put("packs/ab/1", [b"x"])
            store.put("index/1", [b"x"])
            (root / "packs/ab/1").chmod(0)
            (root / "packs/ab").chmod(0o555)
            (root / "packs").chmod(0o555)
            (root / "index").chmod(0)
            (root / ".tmp").chmod(0o555)
            root.chmod(0o555)
            if os.geteuid() == 0:
                os.setgroups([]), os.setgid(65534), os.setuid(65534)
            for call in (
                lambda: store.put("packs/ab/2", [b"x"]),
                lambda: store.put("snapshots/2", [b"x"]),
                lambda: store.get("packs/ab/1"),
                lambda: store.get("packs/ab/1", 0, 1),
                lambda: store.delete("packs/ab/1"),
                lambda: store.stat("index/1"),
                lambda: list(store.list("index/")),
                lambda: LocalBackend(root / "index"),
                lambda: LocalBackend(root / "new", create=True),
            ):
                try:
                    call()
                    print("no error")
                except BackendAccessError as error:
                    print("refused")
            print(store.stat("packs/ab/1").size_bytes)
        """
        tmp_path.chmod(0o755)

        done = run_program(program, str(tmp_path / "store"))
        for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
            path.chmod(0o700)

        assert 0 == done.returncode, done.stderr
        assert ["refused"] * 9 + ["1"] == done.stdout.split("\n")[:-1]

    @pytest.fixture
    def namespace(self):
        """A command prefix that gives a program its own mounts."""
        return own_mounts(instead="simulated by TestEveryCallFails on every machine")

    def test_a_full_disk_is_a_full_store_and_works_again_with_space(self, tmp_path, namespace):
        """On a real disk of 8 MiB: what fits is kept, what does not leaves nothing, after a delete it goes on."""
        program = """
            import os, subprocess, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendFullError

            root = Path(sys.argv[1])
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
            store, stored = LocalBackend(root), 0
            data = os.urandom(3 << 20)
            try:
                for number in range(10):
                    store.put(f"packs/ab/{number}", [data[: 1 << 20], data[1 << 20 :]])
                    stored += 1
            except BackendFullError as error:
                print(stored, "ENOSPC" in str(error), error.hint != "")
            print([info.name for info in store.list()], os.listdir(root / ".tmp"))
            print(all(store.get(info.name) == data for info in store.list()))
            store.delete("packs/ab/0")
            store.put("packs/ab/9", [data])
            print([info.name for info in store.list()])
        """
        done = run_program(program, str(tmp_path), wrapper=namespace)

        assert 0 == done.returncode, done.stderr
        assert [
            "2 True True",
            "['packs/ab/0', 'packs/ab/1'] []",
            "True",
            "['packs/ab/1', 'packs/ab/9']",
        ] == done.stdout.splitlines()

    def test_a_disk_mounted_read_only_can_be_read(self, tmp_path, namespace):
        """On a real read-only mount puts and deletes are refused, and everything else works."""
        program = """
            import subprocess, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendAccessError

            root = Path(sys.argv[1])
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
            LocalBackend(root).put("packs/ab/1", [b"x"])
            subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
            store = LocalBackend(root, create=True)
            for call in (
                lambda: store.put("packs/ab/2", [b"x"]),
                lambda: store.put("index/2", [b"x"]),
                lambda: store.delete("packs/ab/1"),
                lambda: LocalBackend(root / "new", create=True),
            ):
                try:
                    call()
                    print("no error")
                except BackendAccessError as error:
                    print("EROFS" in str(error))
            print(store.get("packs/ab/1"), store.get("packs/ab/1", 0, 1), [info.name for info in store.list()])
        """
        done = run_program(program, str(tmp_path), wrapper=namespace)

        assert 0 == done.returncode, done.stderr
        assert ["True"] * 4 + ["b'x' b'x' ['packs/ab/1']"] == done.stdout.splitlines()

    def test_a_disk_unmounted_during_a_run_does_not_become_a_backup_on_the_root_disk(self, tmp_path, namespace):
        """After a lazy unmount the run goes on on the disk it began on; the empty folder left behind stays empty."""
        program = """
            import os, subprocess, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend

            root = Path(sys.argv[1])
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
            store = LocalBackend(root, create=True)
            store.put("packs/ab/1", [b"x"])
            print("busy" if subprocess.run(["umount", str(root)], capture_output=True).returncode else "gone")
            subprocess.run(["umount", "--lazy", str(root)], check=True)
            store.put("packs/ab/2", [b"y"])
            print(os.listdir(root), store.get("packs/ab/2"))
        """
        done = run_program(program, str(tmp_path), wrapper=namespace)

        assert 0 == done.returncode, done.stderr
        assert ["busy", "[] b'y'"] == done.stdout.splitlines()
        assert [] == os.listdir(tmp_path)

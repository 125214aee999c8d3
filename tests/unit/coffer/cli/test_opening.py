"""Which repository is meant, and with which key it is opened."""

from __future__ import annotations

import pytest

from coffer.backends.retry import RetryBackend
from coffer.backends.throttle import ThrottledBackend
from coffer.cli.opening import Place, given_passphrase, key_file_beside, open_store
from coffer.cli.run import Run


def a_run(**where):
    """A run with these options."""
    return Run("x", as_json=False, quiet=False, verbose=False, where=where)


class TestPlaces:
    def test_the_option_wins_over_the_environment(self, coffer, repo, tmp_path):
        """--repo is nearer than COFFER_REPOSITORY."""
        coffer("init", tmp_path / "other")
        shown = [
            coffer("keys", "show", *more, "--json").result["repository_id"] for more in ((), ("-r", tmp_path / "other"))
        ]
        assert 2 == len(set(shown))

    def test_a_place_may_be_written_as_a_url(self, coffer, repo):
        """file:/// with percent codes is the same folder."""
        assert 0 == coffer("snapshots", "--repo", repo.as_uri().replace("repo", "%72epo")).code

    def test_two_places_are_refused(self, coffer):
        """--repo and --location name one each."""
        code, line, _ = coffer("snapshots", "--repo", "a", "--location", "b").fault()
        assert (2, "--repo and --location: both are given") == (code, line)

    def test_no_place_at_all_says_how_to_name_one(self, coffer, tmp_path, monkeypatch):
        """Without option, variable and policy: a usage error with the three ways."""
        monkeypatch.setattr("coffer.config.loading.find_policy", lambda: tmp_path / "none.yaml")
        code, line, hint = coffer("snapshots").fault()
        assert (2, "no repository is named") == (code, line)
        assert all(word in hint for word in ("--repo", "COFFER_REPOSITORY", "COFFER_POLICY"))

    def test_a_policy_that_is_named_must_be_there(self, coffer, tmp_path, monkeypatch):
        """COFFER_POLICY with a wrong path is told as that."""
        monkeypatch.setenv("COFFER_POLICY", str(tmp_path / "none.yaml"))
        ended = coffer("snapshots")
        assert 2 == ended.code
        assert "cannot be read: No such file or directory" in ended.err

    def test_an_unknown_location_is_refused_with_those_there_are(self, coffer, tmp_path, monkeypatch):
        """The policy's names are in the message."""
        (tmp_path / "p.yaml").write_text("sources: []\n")
        monkeypatch.setenv("COFFER_POLICY", str(tmp_path / "p.yaml"))
        code, line, _ = coffer("snapshots", "--location", "moon").fault()
        assert (2, "location 'moon': the policy has primary") == (code, line)

    def test_a_location_of_the_policy_given_as_a_folder_leads_to_its_option(self, coffer, tmp_path, monkeypatch):
        """--repo NAME looks for a folder of that name; the hint says which option takes a name."""
        (tmp_path / "p.yaml").write_text("sources: []\n")
        monkeypatch.setenv("COFFER_POLICY", str(tmp_path / "p.yaml"))
        monkeypatch.chdir(tmp_path)
        code, line, hint = coffer("snapshots", "--repo", "primary").fault()
        assert (1, f"store file://{tmp_path}/primary: the folder does not exist") == (code, line)
        assert "--location primary" in hint
        for word in ("moon", "./primary"):
            assert "--location" not in coffer("snapshots", "--repo", word).fault()[2]
        (tmp_path / "p.yaml").write_text("sources: [\n")
        assert "--location" not in coffer("snapshots", "--repo", "primary").fault()[2]

    @pytest.mark.parametrize("location", ["s3://bucket", "ftp://user:secret@host/x", "file://host/x"])
    def test_a_place_of_another_kind_is_refused_without_its_password(self, coffer, location):
        """Object stores come later; no address is shown that may hold a password."""
        ended = coffer("snapshots", "-r", location)
        assert 1 == ended.fault()[0]
        assert "secret" not in ended.err


class TestKeys:
    def test_two_keys_are_refused(self, coffer, repo):
        """--key-file and --passphrase-file contradict each other."""
        assert 2 == coffer("snapshots", "--key-file", "a", "--passphrase-file", "b").fault()[0]

    def test_an_option_wins_over_the_environment(self, coffer, repo, tmp_path, monkeypatch):
        """A passphrase that is set elsewhere does not keep --key-file from being used; the reverse neither."""
        monkeypatch.setenv("COFFER_PASSPHRASE", "x")
        assert 1 == coffer("snapshots").fault()[0]
        assert 0 == coffer("snapshots", "--key-file", key_file_beside(repo)).code
        monkeypatch.setenv("COFFER_KEY_FILE", str(key_file_beside(repo)))
        assert 0 == coffer("snapshots").code
        words = tmp_path / "words"
        words.write_text("x\n")
        words.chmod(0o600)
        assert "was given" in coffer("snapshots", "--passphrase-file", words).fault()[1]

    def test_without_any_key_it_says_how_to_give_one(self, coffer, repo):
        """The key beside the folder was moved away: the message says that none is named."""
        key_file_beside(repo).unlink()
        code, line, hint = coffer("snapshots").fault()
        assert (2, True) == (code, line.endswith("no key file is named"))
        assert "COFFER_KEY_FILE" in hint

    def test_a_passphrase_is_asked_for_only_on_a_terminal(self, coffer, tmp_path, monkeypatch):
        """Without one the run fails at once; with one the words that are typed open it."""
        monkeypatch.setenv("COFFER_PASSPHRASE", "some words")
        coffer("init", tmp_path / "repo")
        monkeypatch.delenv("COFFER_PASSPHRASE")
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        code, line, _ = coffer("snapshots", "-r", tmp_path / "repo").fault()
        assert (2, True) == (code, line.endswith("no passphrase is given"))
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        asked = []
        monkeypatch.setattr("getpass.getpass", lambda prompt, stream: asked.append(prompt) or "some words")
        assert 0 == coffer("snapshots", "-r", tmp_path / "repo").code
        assert [f"Passphrase of {tmp_path / 'repo'}: "] == asked

    def test_a_passphrase_that_is_no_text_is_refused_without_showing_it(self, coffer, tmp_path, monkeypatch):
        """Bytes that are not UTF-8 cannot be a passphrase; none of them is shown."""
        monkeypatch.setenv("COFFER_PASSPHRASE", "abc\udcff")
        ended = coffer("init", tmp_path / "repo")
        assert (1, "passphrase: not UTF-8") == ended.fault()[:2]
        assert "abc" not in ended.err

    def test_an_empty_passphrase_in_the_environment_is_none(self, monkeypatch):
        """A variable that is set to nothing is as if it were not set."""
        monkeypatch.setenv("COFFER_PASSPHRASE", "")
        assert given_passphrase({}) is None


class TestStores:
    def test_a_store_is_retried_throttled_and_metered(self, tmp_path):
        """Retry outside, so that what is tried again is paced and counted too."""
        run = a_run()
        run.io_limit_bytes_per_s = 1000
        store = open_store(run, Place(tmp_path / "s"), create=True)
        assert isinstance(store, RetryBackend)
        assert isinstance(store.inner, ThrottledBackend)
        assert store.inner.inner is run.meter
        store.close()

    def test_without_a_limit_nothing_is_throttled(self, tmp_path):
        """No bucket stands in the way of a run without a limit."""
        run = a_run()
        store = open_store(run, Place(tmp_path / "s"), create=True)
        assert store.inner is run.meter
        store.close()

    def test_heads_are_remembered_in_the_policys_state_folder(self, coffer, tmp_path, tree, monkeypatch):
        """Without COFFER_STATE_DIR, a location of the policy keeps its heads where the policy says."""
        file = tmp_path / "config" / "p.yaml"
        file.parent.mkdir()
        file.write_text(
            "repository: {key_file: k, state_dir: mine}\n"
            'local_backup: {locations: {a: {path: "one", retention: "1d", frequency: "daily"}}}\n'
        )
        monkeypatch.setenv("COFFER_POLICY", str(file))
        monkeypatch.delenv("COFFER_STATE_DIR")
        coffer("init")
        assert 0 == coffer("backup", tree).code
        assert 1 == len(list((tmp_path / "mine" / "heads").glob("*.json")))

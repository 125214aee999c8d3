"""The tools' command lines: what they hold, and what they must not."""

from pathlib import Path

import pytest

from benchmarks.postgres.contenders import CONTENDERS, filled_in, result_of
from benchmarks.postgres.scenarios import printable
from tests.harness.postgres import PASSWORD, Installation, Server

INSTALLATION = Installation(18, Path("/opt/pg/bin"))


@pytest.fixture
def server(tmp_path):
    """A server that is never started."""
    return Server(INSTALLATION, tmp_path / "server", 5432)


@pytest.fixture(params=list(CONTENDERS))
def tool(request, server, tmp_path):
    """Each of the tools, with its configuration written."""
    made = CONTENDERS[request.param](server, tmp_path / request.param)
    made.init()
    return made


def test_no_password_stands_in_a_command_line(tool, tmp_path):
    """Arguments can be read by every user of the machine."""
    commands = [tool.full(), tool.restore(tmp_path / "target"), *tool.after_backup(), *tool.init()]
    if tool.name != "limit":
        commands.append(tool.incremental())

    assert [] == [command.argv for command in commands if PASSWORD in " ".join(command.argv)]


def test_a_restore_of_a_chain_names_every_link_in_its_order(server, tmp_path):
    """pg_combinebackup takes the full backup first, then each incremental."""
    tool = CONTENDERS["pg_combinebackup"](server, tmp_path / "chain")
    for step in (tool.full, tool.incremental, tool.incremental):
        step()

    words = tool.restore(tmp_path / "target").argv

    links = [str(tool.repository() / name) for name in "012"]
    assert links == [word for word in words if word in links]


def test_an_incremental_of_postgresql_is_taken_from_the_last_manifest(server, tmp_path):
    """Each link names the manifest of the one before it."""
    tool = CONTENDERS["pg_combinebackup"](server, tmp_path / "chain")
    tool.full()
    tool.incremental()

    assert f"--incremental={tool.repository()}/1/backup_manifest" in tool.incremental().argv


def test_coffer_tells_what_the_server_sent_and_whether_it_kept_to_the_method(server, tmp_path):
    """A native backup that fell back to another method is not reported as one."""
    tool = CONTENDERS["coffer-native"](server, tmp_path / "coffer")
    tool.full()
    tool.incremental()
    output = (
        'coffer: warning: pg-incr-refused\n{"schema": "coffer/1", "command": "pg backup", "result": {"snapshot":'
        ' {"stats": {"read_bytes": 7}, "facts": {"method": "delta"}}}, "ok": true}\n'
    )

    assert {"read_bytes": 7.0, "fell_back": 1.0} == tool.figures(output)


def test_an_output_without_an_envelope_is_an_error():
    """Nothing is measured of a run whose words are not understood."""
    with pytest.raises(ValueError, match="substring not found"):
        result_of("no envelope\n")


def test_a_restore_command_is_filled_in_as_by_the_server():
    """%f is the segment, %p the place, %% a percent sign; nothing else is touched."""
    line = filled_in("get %f \"%p\" '100%%' %r", "0001", "/to/0001")

    assert "get 0001 \"/to/0001\" '100%' %r" == line


@pytest.mark.parametrize("name", ["coffer", "pgbackrest"])
def test_each_segment_is_fetched_by_a_shell_of_its_own(name, server, tmp_path):
    """The server starts the command anew for each segment, and stops at the first that fails."""
    tool = CONTENDERS[name](server, tmp_path / name)

    script = Path(tool.fetch(["0001", "0002"], tmp_path / "to").argv[1]).read_text().splitlines()

    assert [True, True] == [line.startswith("sh -c ") and line.endswith(" || exit 1") for line in script]
    assert all(f"{tmp_path}/to/{name}" in line for name, line in zip(("0001", "0002"), script, strict=True))


def test_a_command_in_the_report_names_no_folder_of_this_machine(tool, server, tmp_path, monkeypatch):
    """Programs by their names, the scratch folder as /bench, and no port that differs from run to run."""
    monkeypatch.setattr("benchmarks.postgres.scenarios.SCRATCH_DIR", tmp_path)

    shown = printable(tool.full(), server)

    assert str(tmp_path) not in shown
    assert "5432" not in shown
    assert not shown.startswith(("/", "setpriv", "bash"))

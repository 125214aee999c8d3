"""Mistakes that join several keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from coffer.config.crosscheck import find_conflicts
from coffer.config.mistakes import key_text
from coffer.config.validation import examine

ROOT = Path("/srv/project")


def conflicts(text):
    """Return key and problem of every mistake of a policy's text, all of which must join several keys."""
    return [(mistake.key, mistake.problem) for mistake in examine(text, ROOT)[1]]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("sources: [{name: a, paths: [x]}, {name: b, paths: [y]}, {name: a, paths: [z]}]", "sources[2].name"),
        (
            "sync_procedures: {schedule: [{name: a, frequency: daily}, {name: a, frequency: hourly}]}",
            "sync_procedures.schedule[1].name",
        ),
        (
            "partial_recovery: {procedures: [{name: a, steps: [verification]}, {name: a, steps: [service_stop]}]}",
            "partial_recovery.procedures[1].name",
        ),
    ],
)
def test_two_things_with_one_name_are_found(text, key):
    """A name that comes twice in a list is told at the second, with where the first is."""
    list_key = key.partition("[")[0]
    assert [(key, f"{list_key}[0] has the same name")] == conflicts(text)


def test_a_source_that_names_an_unknown_location_is_told_the_nearest():
    """Locations are looked up by name; the default one counts where none is given."""
    (mistake,) = examine("sources: [{name: a, paths: [x], locations: [primry]}]", ROOT)[1]
    assert ("sources[0].locations[0]", "primary") == (mistake.key, mistake.nearest)
    assert "a name under local_backup.locations: primary" == mistake.allowed


def test_a_location_with_mistakes_of_its_own_is_known_by_its_name():
    """One mistake in a location does not make every source that names it wrong too."""
    text = "local_backup: {locations: {disk: {path: 5, retention: 30d}}}\n"
    text += "sources: [{name: a, paths: [x], locations: [disk]}]"
    assert [("local_backup.locations.disk.path", "a number without a unit")] == conflicts(text)


def test_a_sync_that_names_an_unknown_source_is_found():
    """Sources of a sync procedure are looked up by name."""
    text = "sync_procedures: {schedule: [{name: logs, frequency: daily, sources: [logs]}]}"
    (mistake,) = examine(text, ROOT)[1]
    assert "there is no such name under sources" == mistake.problem
    assert "a name under sources; there is none yet" == mistake.allowed


@pytest.mark.parametrize(
    ("first", "second"),
    [("/b/one", "/b/one"), ("/b/one", "/b/one/two"), ("/b/one/two", "/b/one"), ("/", "/b"), ("b", "/srv/project/b/")],
)
def test_locations_within_each_other_are_found(first, second):
    """Two repositories never share a folder, however the paths are written."""
    locations = f"{{one: {{path: {first}, retention: 30d}}, two: {{path: {second}, retention: 30d}}}}"
    text = f"local_backup: {{locations: {locations}}}"
    problem = "the same folder as location one, or one within the other"
    assert ("local_backup.locations.two.path", problem) in conflicts(text)


def test_locations_side_by_side_are_fine():
    """A name that only begins like another folder's is another folder."""
    text = "local_backup: {locations: {a: {path: /b/one, retention: 30d}, b: {path: /b/one-two, retention: 30d}}}"
    assert [] == conflicts(text)


def test_locations_are_compared_with_links_followed(tmp_path):
    """A link does not hide that two locations are one folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    text = "local_backup: {locations: {a: {path: real, retention: 30d}, b: {path: link/x, retention: 30d}}}"
    assert ["local_backup.locations.b.path"] == [mistake.key for mistake in examine(text, tmp_path)[1]]


WITHIN = "lies within location disk: a repository is not backed up into itself"
HOLDS = "holds location disk: a repository is not backed up into itself"
STORAGE = "encryption.at_rest.key_storage"
LOCATION = "local_backup: {locations: {disk: {path: /data/backups, retention: 30d}}}\n"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("paths: [/data/backups]", WITHIN),
        ("paths: [/data/backups/x]", WITHIN),
        ("paths: [/data]", HOLDS),
        ("paths: [/]", HOLDS),
        ("paths: [/data], exclude: ['*.tmp']", HOLDS),
        ("paths: [/data], exclude: [/backups/, '!/backups/']", HOLDS),
    ],
)
def test_a_source_and_a_location_within_each_other_are_found(source, problem):
    """A backup that would read its own repository is refused before it runs."""
    assert [("sources[0].paths[0]", problem)] == conflicts(LOCATION + f"sources: [{{name: a, {source}}}]")


@pytest.mark.parametrize(
    "source",
    [
        "paths: [/data], exclude: ['/backups/']",
        "paths: [/data], exclude: ['backups/']",
        "paths: [/], exclude: ['/data/backups/']",
        "paths: [/], exclude: [/data]",
        "paths: [/data/back]",
        "paths: [/data/backups2]",
    ],
)
def test_a_location_that_the_source_leaves_out_is_fine(source):
    """A source around a location is fine if a pattern excludes the location."""
    assert [] == conflicts(LOCATION + f"sources: [{{name: a, {source}}}]")


def test_the_pattern_that_is_offered_resolves_the_conflict():
    """What the mistake offers under 'allowed' is what makes it go away."""
    text = LOCATION + "sources: [{name: a, paths: [/data]}]"
    (mistake,) = examine(text, ROOT)[1]
    assert 'a path without a location in it, or exclude: ["/backups/"]' == mistake.allowed
    assert [] == conflicts(text.replace("paths: [/data]", 'paths: [/data], exclude: ["/backups/"]'))


def test_a_broken_pattern_is_one_mistake_and_excludes_nothing():
    """A pattern that is none is told by itself; the location counts as not excluded."""
    text = LOCATION + "sources: [{name: a, paths: [/data], exclude: ['!']}]"
    assert ["sources[0].paths[0]", "sources[0].exclude[0]"] == [key for key, _ in conflicts(text)]


@pytest.mark.parametrize(
    ("settings", "key", "why"),
    [
        ("key_file: /data/backups/key", "key_file", "must not be stored with what it opens"),
        ("passphrase_file: /data/backups/pass", "passphrase_file", "must not be stored with what it opens"),
        ("state_dir: /data/backups", "state_dir", "must not lie in the repository"),
    ],
)
def test_a_key_or_state_within_a_location_is_found(settings, key, why):
    """The key is never stored with the data; neither is the state."""
    storage = "encryption: {at_rest: {key_storage: passphrase}}\n" if key == "passphrase_file" else ""
    text = LOCATION + storage + f"repository: {{{settings}}}"
    assert [(f"repository.{key}", f"lies within location disk: it {why}")] == conflicts(text)


def test_the_default_key_file_counts_too():
    """A location around var/ would hold the default key file and state; both are told though no line names them."""
    text = "local_backup: {locations: {all: {path: var, retention: 30d}}}"
    assert ["repository.key_file", "repository.state_dir"] == [key for key, _ in conflicts(text)]


@pytest.mark.parametrize(
    ("storage", "settings", "key", "problem"),
    [
        ("passphrase", "", STORAGE, "no passphrase is named"),
        ("passphrase", "passphrase_env: A, passphrase_file: b", STORAGE, "two passphrases are named"),
        ("key_file", "passphrase_env: A", "repository.passphrase_env", "it is named but not used"),
        ("vault", "passphrase_file: b", "repository.passphrase_file", "it is named but not used"),
    ],
)
def test_a_passphrase_is_named_once_and_only_where_it_is_used(storage, settings, key, problem):
    """Key storage by passphrase needs one reference; any other takes none."""
    text = f"encryption: {{at_rest: {{key_storage: {storage}}}}}\nrepository: {{{settings}}}"
    assert [(key, problem)] == conflicts(text)


@pytest.mark.parametrize("settings", ["passphrase_env: COFFER_PASSPHRASE", "passphrase_file: var/keys/passphrase"])
def test_one_reference_to_a_passphrase_is_fine(settings):
    """Either the variable or the file names the passphrase."""
    assert [] == conflicts(f"encryption: {{at_rest: {{key_storage: passphrase}}}}\nrepository: {{{settings}}}")


def test_levels_that_contradict_each_other_are_found():
    """Two keys of the specification set one thing: they agree, or one is left out."""
    local, general = "local_backup: {compression: {level: 3}}\n", "performance_config: {compression: {level: 9}}\n"
    problem = "differs from local_backup.compression.level"
    assert [("performance_config.compression.level", problem)] == conflicts(local + general)
    for text in (local, general, local + general.replace("9", "3")):
        assert [] == conflicts(text)


def test_an_incremental_backup_needs_a_full_one():
    """Incremental alone has nothing to build on."""
    assert [("backup_types", "an incremental backup without a full one to build on")] == conflicts(
        "backup_types: [incremental]"
    )
    assert [] == conflicts("backup_types: [full]")


WINDOW = 'performance_config: {scheduling: {backup_window: "01:00-05:00"}}\n'


@pytest.mark.parametrize(
    ("text", "key", "time"),
    [
        ('filesystem_backup: {schedule: "0 12 * * *"}', "filesystem_backup.schedule", "12:00"),
        ('filesystem_backup: {schedule: "0 2,5 * * *"}', "filesystem_backup.schedule", "05:00"),
        ('schedule: {full: "30 0 * * 0"}', "schedule.full", "00:30"),
        ('schedule: {incremental: "0 0 * * 1-6"}', "schedule.incremental", "00:00"),
        (
            'filesystem_backup: {schedule: "0 2 * * *"}\nsources: [{name: a, paths: [x], schedule: "0 6 * * *"}]',
            "sources[0].schedule",
            "06:00",
        ),
        ("sources: [{name: a, paths: [x]}]", "filesystem_backup.schedule", "00:00"),
    ],
)
def test_a_schedule_outside_the_window_is_found(text, key, time):
    """A run that would start outside the backup window is told with the first such time; defaults in use count too."""
    assert [(key, f"it runs at {time}, outside the backup window 01:00-05:00")] == conflicts(WINDOW + text)


def test_default_schedules_of_databases_count_once_there_are_databases():
    """Both default schedules of databases are outside a window from one o'clock."""
    assert ["schedule.full", "schedule.incremental"] == [key for key, _ in conflicts(WINDOW + "databases: [a]")]
    assert [] == conflicts(WINDOW + "databases: []")


def test_a_broken_window_or_schedule_is_one_mistake():
    """What cannot be read is told by itself and not compared."""
    broken_window = 'performance_config: {scheduling: {backup_window: "1-5"}}\nsources: [{name: a, paths: [x]}]'
    assert ["performance_config.scheduling.backup_window"] == [key for key, _ in conflicts(broken_window)]
    assert ["filesystem_backup.schedule"] == [key for key, _ in conflicts('filesystem_backup: {schedule: "0 12"}')]


def test_an_alert_that_no_channel_takes_is_found():
    """Where there are channels, each trigger's severity reaches one; by default, all reach it."""
    mail = "alert_config: {{channels: [{{type: email, recipients: [a@b.c]{}}}]}}"
    assert [
        ("alert_config.triggers.backup_failure.severity", "no channel takes alerts of this severity"),
        ("alert_config.triggers.storage_low.severity", "no channel takes alerts of this severity"),
    ] == sorted(conflicts(mail.format(", priority: [critical]")))
    assert [] == conflicts(mail.format(", priority: [high, warning]"))
    assert [] == conflicts(mail.format(", priority: [all]"))
    assert [] == conflicts(mail.format(""))
    assert [] == conflicts("alert_config: {channels: []}")


@pytest.mark.parametrize("value", [None, 5, "x", [1], [None], {"a": 1}, [{"name": 5, "paths": 5}], {"a": {"b": None}}])
def test_what_has_the_wrong_form_is_passed_over(value):
    """No value anywhere makes the joint checks fail; what has the wrong form is told elsewhere."""
    keys = ["sources", "local_backup", "repository", "schedule", "alert_config", "encryption", "sync_procedures"]
    shapes = [value, {"locations": value, "channels": value, "triggers": value, "at_rest": value, "schedule": value}]
    for shape in shapes:
        findings = find_conflicts(dict.fromkeys(keys, shape), ROOT)
        assert all(key_text(finding.path) for finding in findings)


def test_joint_checks_wait_until_every_block_can_be_read():
    """While a block is unreadable, names in it are unknown and nothing that refers to them is told as wrong."""
    text = "local_backup: {locations: {disk: {path: /b, retention: 30d}}\n"
    text += "sources: [{name: a, paths: [x], locations: [disk]}]"
    assert ["a bracket that is not closed, or a missing comma"] == [problem for _, problem in conflicts(text)]

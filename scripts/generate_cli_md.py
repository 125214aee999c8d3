"""Write docs/cli.md from the command line itself; with `--check`, only compare, and fail if it is out of date."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator

import click
from generated_page import write_or_compare

from coffer.cli.application import COMMANDS

HEAD = """# The command line

Made by `make docs` from `include/coffer/cli/`; do not edit (the text above the commands is in
`scripts/generate_cli_md.py`).

```
coffer init /backups/primary            # a new repository; its key is /backups/primary.key
export COFFER_REPOSITORY=/backups/primary
coffer backup /etc /srv                 # a snapshot of both
coffer snapshots                        # what there is
coffer find 'fstab*'                    # where a file is
coffer restore latest --target /tmp/restored --path /etc/fstab --verify
coffer check && coffer verify           # is all of it there, and whole?
```

## Which repository, and which key

Asked in this order; the first that is given counts.

- **The repository**: `--repo`, `--location` (a location of the policy), `COFFER_REPOSITORY`, the policy's first
  location.
- **The key**: `--key-file` or `--passphrase-file`, `COFFER_KEY_FILE`, `COFFER_PASSPHRASE_FILE`, `COFFER_PASSPHRASE`;
  then for a location of the policy what the policy refers to, for any other folder the key file beside it (`REPO.key`);
  last the terminal, for a passphrase.
- **The policy**: `COFFER_POLICY`, `config/coffer.yaml` in the working folder, that of the project.

A key file or passphrase file that others may read is refused. A passphrase is never an argument: every user of the
machine can read those. What Coffer remembers outside of repositories (the newest snapshot of each source, by which a
removed one is noticed) lies in `COFFER_STATE_DIR`, for a location of the policy in its `state_dir`, else in
`~/.local/state/coffer`.

## Names of snapshots

| name | means |
|---|---|
| `3f2a` | the snapshot whose id begins so, if there is only one |
| `latest` | the newest of all |
| `latest:SOURCE` | the newest of a source |
| `latest:SOURCE@2026-11-01` | the newest of it that was finished by the end of that day (UTC) |
| `latest:SOURCE@2026-11-01T03:00` | by that time; UTC, unless it says otherwise (`+01:00`) |

## Names of sources

Snapshots of one source form a chain, and the files that did not change since the last one are not read again. So a
backup should bear the same name each time. Without `--source` the name is made of the paths, absolute, sorted and
joined by commas, with `_` for `@`: `coffer backup /srv /etc` is the source `/etc,/srv`. More than four paths need a
`--source`: a shell's `*` gives other paths the next time. Machines that share a repository should name their sources
apart.

## PostgreSQL servers

Commands that speak to a server take `--source NAME` for a database of the policy, which says address, role, password
and slot; or `--host`, `--port`, `--user`, `--dbname`, `--sslmode` and `--slot`, which go before the policy, and without
a policy libpq's own `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE` and `PGSSLMODE`. The password is where the policy says,
else in `PGPASSWORD`, `PGPASSFILE` or `~/.pgpass`; it is never an argument. Several databases of the policy that are on
one server are one source, with the name of the first; each of their names will do.

Commands that start a server or PostgreSQL's own programs look for those of the right version in Debian's place
(`/usr/lib/postgresql`) and in `PATH`; `COFFER_PG_BIN` names other folders instead, joined as in `PATH`.

## Exit codes

| code | means |
|---|---|
| 0 | all well |
| 1 | failed: an error, or a check that found damage |
| 2 | usage: the command line, the policy, or a name in it is wrong; nothing was done |
| 3 | done, but incomplete: some files could not be saved or restored as they are; each is a warning |
| 126 | failed, of `coffer wal fetch` alone: PostgreSQL takes a lower code for the end of the archive |

An error is one line `coffer: ...` and one line `HINT: ...` on standard error. [errors.md](errors.md) lists them with
their codes. Results are on standard output, so that they can be piped; progress and warnings are not.

## Progress

On a terminal a run that lasts longer than half a second shows a bar: entries (files, links and folders), bytes, speed,
and the time left where the size of the whole is known. Elsewhere a line is written every 30 seconds. `--quiet` shows
neither, and `--json` only the bar. File names are shown with everything that is not printable escaped.

## Stopping

The first Ctrl-C, SIGTERM or hang-up lets a backup write a checkpoint, a restore finish the files at hand, and other
commands end. The next backup of the same source goes on from the checkpoint. A second signal ends the run at once; what
was stored is found again then too. The exit code is 1.

## After a restore

Files that a restore has finished are whole. As after any copy, the system writes them to the disk in its own time: a
power cut within about half a minute may take some of them. `--durable`, and `--verify` which implies it, ends only when
everything is on the disk. It flushes the target's file system once. Measured on a virtual disk, median of 5: 5,000
files of 4 KiB took 0.65 s instead of 0.17 s, one file of 512 MiB 0.36 s instead of 0.21 s. A slow disk takes as long as
it needs to write what was restored.

A restore that is killed (`kill -9`, a power cut) leaves up to one unfinished file per thread, and those of the large
files at hand, named `.coffer-` with 16 hex digits and `.part`, mode 0600. They are no part of the snapshot, and a later
restore does not touch them. When no restore into that folder runs, this shows them, and with `-delete` at its end
removes them:

```
find DIR -xdev -type f -user "$(id -un)" -regextype posix-extended -regex '.*/\\.coffer-[0-9a-f]{16}\\.part'
```

## JSON

`--json` writes one object to standard output, whatever happens ([schema](json-schema/envelope.json), JSON Schema draft
2020-12, with a definition `result_...` for each command):

```
{"schema": "coffer/1", "command": "find", "result": {"pattern": "fstab", "matches": [
{"snapshot_id": "d9559e069284cf32", "source": "/etc,/srv", "path": "etc/fstab", "kind": "file", ...}],
"found": 1, "snapshots": 1, "store": {...}}, "warnings": [], "warnings_count": 0, "ok": true, "exit_code": 0,
"error": null}
```

- `result` is the command's own; it is complete where `error` is null. Long lists are written while they are made, so it
  comes before the verdict.
- `ok` is `exit_code == 0`. `error` has `code`, `message` and `hint`; a run that is incomplete (3) has no error, and
  `warnings` that say what is missing, the first thousand of `warnings_count`.
- Codes of errors are those of [errors.md](errors.md), and five more: `damage-found` (a check found something),
  `not-fit` (`coffer pg doctor`: a check of the server failed), `interrupted` (a signal), `output` (standard output
  cannot be written), `internal` (a mistake in Coffer).
- Sizes are in bytes, durations in seconds, times in UTC. A path is written without its leading slash, as in the
  snapshot; where it is not UTF-8, `path_base64` holds its bytes.
- A field keeps its meaning for as long as `schema` is `coffer/1`; new fields may come.

## Commands

Every command takes `--json`, `--quiet` (`-q`), `--verbose` (`-v`) and `--help` (`-h`). Those that open a repository
take `--repo` (`-r`), `--location`, `--key-file` and `--passphrase-file`. The tables hold the others.
"""
EVERYWHERE = frozenset({"as_json", "quiet", "verbose", "repo", "location", "key_file", "passphrase_file"})


def main() -> int:
    """Write or compare the page; see `write_or_compare`."""
    return write_or_compare("cli.md", render(), made_from="include/coffer/cli/")


def render() -> str:
    """Return the whole page."""
    return HEAD + "".join(_section(words, command) for words, command in leaves())


def leaves() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its words, in the order of `coffer --help`."""
    for name in COMMANDS:
        command: click.Command = importlib.import_module(f"coffer.cli.commands.{name}").COMMAND
        if isinstance(command, click.Group):
            yield from ((f"{name} {word}", inner) for word, inner in command.commands.items())
        else:
            yield name, command


def _section(words: str, command: click.Command) -> str:
    arguments = [p.human_readable_name for p in command.params if isinstance(p, click.Argument)]
    own = [p for p in command.params if isinstance(p, click.Option) and p.name not in EVERYWHERE]
    opens = any(p.name == "repo" for p in command.params)
    usage = " ".join(["coffer", words, *arguments, *(["[OPTIONS]"] if own or opens else [])])
    parts = [f"\n### coffer {words}\n\n```\n{usage}\n```\n\n{inspect.cleandoc(command.help or '')}\n"]
    if own:
        parts.append("\n| option | meaning |\n|---|---|\n")
        parts += [f"| {_flags(option)} | {_cell(option.help or '')}{_extra(option)} |\n" for option in own]
    return "".join(parts)


def _flags(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.make_metavar(click.Context(click.Command('x')))}"
    return ", ".join(f"`{flag}{_cell(value) if flag.startswith('--') else ''}`" for flag in option.opts)


def _extra(option: click.Option) -> str:
    notes = [word for word, is_so in (("required", option.required), ("may be repeated", option.multiple)) if is_so]
    return f" *({', '.join(notes)})*" if notes else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())

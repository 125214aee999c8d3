"""The command line: `coffer COMMAND ...`.

Terms: a *run* is one invocation; its *outcome* is what a command hands back, shown as lines or as the one JSON
*envelope* (docs/cli.md). Nothing here decides about backups: a command reads its options, calls the engine, and shows
what it said.

A start must be fast, since every backup of an unchanged tree pays for it: `main` imports next to nothing, each
command's module is imported when it is called, and rich, pydantic and yaml only by what shows a bar or reads a policy.
"""

"""A backup does not save the repository that it writes to."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from coffer.errors import SourceContainsRepositoryError
from coffer.repository.repository import Repository
from coffer.sources.filesystem.filters import make_excludes
from coffer.sources.filesystem.spec import FilesystemSource


def refuse_own_repository(
    repo: Repository, paths: tuple[bytes, ...], source: FilesystemSource, *, filtered: bool
) -> None:
    """See that no source path holds the repository, unless it is left out.

    Raises:
        SourceContainsRepositoryError: One does: each backup would save the ones before it.
    """
    url = urlsplit(repo.backend.url)
    if url.scheme != "file":
        return
    own = os.path.realpath(os.fsencode(unquote(url.path)))
    for path in paths:
        inside = own == path or own.startswith(path.rstrip(b"/") + b"/")
        if inside and not (filtered and _leaves_out(source, own[len(path.rstrip(b"/")) + 1 :])):
            raise SourceContainsRepositoryError(
                f"source path {os.fsdecode(path)}: holds the repository {os.fsdecode(own)} itself"
            )


def _leaves_out(source: FilesystemSource, relative: bytes) -> bool:
    excluded = make_excludes(source.exclude, source.include)
    parts = relative.split(b"/")
    return excluded is not None and any(excluded(b"/".join(parts[: n + 1]), is_folder=True) for n in range(len(parts)))

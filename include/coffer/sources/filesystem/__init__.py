"""Back up file trees.

`walk` lists folders in order; `blockcut` gathers them into blocks; `parent` tells what is unchanged; `content` reads
what is not; `bundle` joins small files into chunks; `backup` runs it all and commits.
"""

from coffer.sources.assembly.result import BackupResult, SourceWarning
from coffer.sources.filesystem.backup import backup
from coffer.sources.filesystem.spec import BackupOptions, FilesystemSource

__all__ = ["BackupOptions", "BackupResult", "FilesystemSource", "SourceWarning", "backup"]

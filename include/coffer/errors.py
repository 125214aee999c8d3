"""Every error that Coffer raises, in one tree.

CofferError
├─ TransientError                      trying again may help
│  ├─ BackendUnavailableError          the store did not answer, or said "later"
│  ├─ BackendFullError                 no space left where the store lives
│  ├─ LeaseLostError                   the writer slept past its deadline and was revoked
│  ├─ SourceBusyError                  another run of the same source holds the lease
│  ├─ InterruptedRunError              stopped by a signal or the end of the window; resumable
│  └─ RestoreSpaceError                no space left in the restore's target
└─ PermanentError                      trying again gives the same answer
   ├─ UsageError                       the request itself is wrong
   │  ├─ PolicyInvalidError            the policy file has mistakes
   │  ├─ SnapshotNotFoundError         no snapshot of that name
   │  ├─ SnapshotAmbiguousError        several snapshots of that prefix
   │  └─ PathNotInSnapshotError        the snapshot has no such path
   ├─ BackendError
   │  ├─ ObjectNotFoundError           no object of that name
   │  ├─ ObjectExistsError             a conditional put lost
   │  ├─ ObjectNameInvalidError        a name outside the store's alphabet
   │  ├─ ShortReadError                fewer bytes than asked for
   │  ├─ BackendAccessError            no permission, or a read-only store
   │  └─ BackendLocationError          the store's location cannot be used
   ├─ RepositoryError
   │  ├─ NotARepositoryError           no coffer.json there
   │  ├─ RepositoryExistsError         init over an existing repository
   │  ├─ FormatVersionError            written by a newer Coffer
   │  ├─ ObjectCorruptError            stored bytes fail their check
   │  ├─ ChunkMissingError             an id that no index knows
   │  ├─ SizeLimitError                a declared size is over its cap
   │  └─ ChainBrokenError              the snapshot chain has a gap or a false link
   ├─ CryptoError
   │  ├─ WrongKeyError                 the key or passphrase does not open this repository
   │  ├─ KeyFileError                  the key file cannot be used
   │  ├─ KeyMissingError               the epoch's key is not in the repository
   │  └─ SignatureError                a signature does not verify
   ├─ SourceError
   │  ├─ SourceMissingError            the path to back up does not exist
   │  ├─ SourceReadError               a source cannot be read at all
   │  ├─ SourceFormatError             what a source delivers is not in its format
   │  └─ SourceContainsRepositoryError the source holds the repository itself
   └─ RestoreError
      ├─ RestoreTargetError            the target cannot be used as asked
      ├─ RestoreUnsafePathError        the snapshot asks to leave the target
      └─ RestoreIncompleteError        some files could not be restored

Every leaf is transient or permanent, never both; has a stable ``code``; carries a ``hint`` that says what to do; and
pickles (Airflow carries exceptions between processes).
"""

from __future__ import annotations

from typing import Any, ClassVar


class CofferError(Exception):
    """Base of everything that Coffer raises on purpose.

    Args:
        message: Object, cause, value; lower case, no final period; never a secret.
        hint: What the reader can do about it; the class's own hint where omitted.
        **details: Facts for programs (ids, paths, sizes); must pickle; never a secret.
    """

    code: ClassVar[str] = "coffer"
    default_hint: ClassVar[str] = ""
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild through the keyword constructor; positional unpickling would lose hint and details."""
        return (_rebuild, (type(self), self.message, self.hint, self.details))


def _rebuild(cls: type[CofferError], message: str, hint: str, details: dict[str, Any]) -> CofferError:
    return cls(message, hint=hint, **details)


class TransientError(CofferError):
    """Trying again may help."""

    code = "transient"
    transient = True


class PermanentError(CofferError):
    """Trying again gives the same answer."""

    code = "permanent"


# ------------------------------------------------------------------------------------------------ transient leaves


class BackendUnavailableError(TransientError):
    """Raised when a store does not answer, or answers that it cannot just now; the call may have taken effect."""

    code = "backend-unavailable"
    default_hint = "Is the disk mounted, or the network up? Run the command again; what was stored is kept."


class BackendFullError(TransientError):
    """Raised when the store has no space left; objects already put are whole, the one at hand was not stored."""

    code = "backend-full"
    default_hint = "Free or add space where the repository lives, then run again: what was stored is found and kept."


class LeaseLostError(TransientError):
    """Raised when a writer ran past its lease and was revoked; nothing was committed, its packs are orphans."""

    code = "lease-lost"
    default_hint = (
        "The machine slept or stalled for longer than the lease. Run the backup again; stored packs are found."
    )


class SourceBusyError(TransientError):
    """Raised when another run of the same source holds a live lease; nothing was written."""

    code = "source-busy"
    default_hint = "Another backup of this source is running. Wait for it, or for its lease to pass if it was killed."


class InterruptedRunError(TransientError):
    """Raised when a run was stopped from outside; what was stored is kept and the next run goes on from there."""

    code = "interrupted"
    default_hint = "Run the same backup again: it goes on from where it stopped."


class RestoreSpaceError(TransientError):
    """Raised when the target of a restore is full; files finished before that are whole."""

    code = "restore-space"
    default_hint = "Free space in the target, then run again with --overwrite changed: finished files are kept."


# ------------------------------------------------------------------------------------------------ usage


class UsageError(PermanentError):
    """Raised when the request itself is wrong; nothing was done."""

    code = "usage"
    default_hint = "Run the command with --help to see what it takes."


class PolicyInvalidError(UsageError):
    """Raised when the policy file has mistakes; ``details['mistakes']`` lists them all; nothing was done."""

    code = "policy-invalid"
    default_hint = "Run 'coffer config check' to see every mistake with its line and what is allowed."


class SnapshotNotFoundError(UsageError):
    """Raised when no snapshot has that name."""

    code = "snapshot-not-found"
    default_hint = "Run 'coffer snapshots' to see what there is."


class SnapshotAmbiguousError(UsageError):
    """Raised when a prefix fits several snapshots."""

    code = "snapshot-ambiguous"
    default_hint = "Give more characters of the id."


class PathNotInSnapshotError(UsageError):
    """Raised when a snapshot does not hold the path asked for."""

    code = "path-not-in-snapshot"
    default_hint = "Run 'coffer find' or 'coffer ls' to see the paths of the snapshot."


# ------------------------------------------------------------------------------------------------ backend


class BackendError(PermanentError):
    """Base of a store's permanent refusals."""

    code = "backend"
    default_hint = "Look at the store itself; the message names the object."


class ObjectNotFoundError(BackendError):
    """Raised when the store has no object of that name."""

    code = "object-not-found"
    default_hint = "Run 'coffer check' to see what else is missing."


class ObjectExistsError(BackendError):
    """Raised when a conditional put finds the name taken; the object there is untouched."""

    code = "object-exists"
    default_hint = "Another writer was first. Nothing was overwritten."


class ObjectNameInvalidError(BackendError):
    """Raised when a name is outside the store's alphabet, before it reaches the store or after it was listed."""

    code = "object-name-invalid"
    default_hint = "Was a file put by hand into the repository's folder? Move it away."


class ShortReadError(BackendError):
    """Raised when a read brings fewer bytes than were asked for: the object is truncated."""

    code = "short-read"
    default_hint = "Was the repository copied while a backup was running? Run 'coffer verify' to see what is damaged."


class BackendAccessError(BackendError):
    """Raised when the store refuses the caller: no permission, or read-only; nothing was changed."""

    code = "backend-access"
    default_hint = "Check the owner and mode of the repository's folder, and whether its disk is mounted read-only."


class BackendLocationError(BackendError):
    """Raised when the store's location cannot be used at all (missing, not a folder, unknown scheme)."""

    code = "backend-location"
    default_hint = "Check the repository's path. A new repository is made by 'coffer init'."


# ------------------------------------------------------------------------------------------------ repository


class RepositoryError(PermanentError):
    """Base of what can be wrong with a repository's content."""

    code = "repository"
    default_hint = "Run 'coffer check' to see what is damaged."


class NotARepositoryError(RepositoryError):
    """Raised when the location holds no coffer.json, or one that is none."""

    code = "not-a-repository"
    default_hint = "Check the path, or make a new repository with 'coffer init'."


class RepositoryExistsError(RepositoryError):
    """Raised when init finds a repository already there; it is untouched."""

    code = "repository-exists"
    default_hint = "Choose another location, or use the repository that is there."


class FormatVersionError(RepositoryError):
    """Raised when an object was written in a format that this Coffer does not know."""

    code = "format-version"
    default_hint = "It was written by a newer Coffer. Install that version or a later one."


class ObjectCorruptError(RepositoryError):
    """Raised when stored bytes fail their check: truncated, altered, or put in another's place."""

    code = "object-corrupt"
    default_hint = (
        "Run 'coffer verify' to list what is damaged. Nothing was changed; undamaged files can still be restored."
    )


class ChunkMissingError(RepositoryError):
    """Raised when a chunk is referred to that no index segment and no pack knows."""

    code = "chunk-missing"
    default_hint = "Run 'coffer check' to see which snapshots need it; the next backup stores it anew where it can."


class SizeLimitError(RepositoryError):
    """Raised when a stored size is over its cap, before memory is taken for it."""

    code = "size-limit"
    default_hint = "The object is damaged or hostile. Run 'coffer check' to see what else is."


class ChainBrokenError(RepositoryError):
    """Raised when the chain of a source's snapshots has a gap, a fork or a false link."""

    code = "chain-broken"
    default_hint = "A snapshot was removed or replaced outside Coffer. Compare with another location or machine."


# ------------------------------------------------------------------------------------------------ crypto


class CryptoError(PermanentError):
    """Base of what can be wrong with keys and seals."""

    code = "crypto"
    default_hint = "Check which key belongs to this repository."


class WrongKeyError(CryptoError):
    """Raised when the key file or passphrase does not open this repository."""

    code = "wrong-key"
    default_hint = (
        "Is this the key of another repository? Check COFFER_KEY_FILE, or the passphrase's capitals and spaces."
    )


class KeyFileError(CryptoError):
    """Raised when a key file is missing, unreadable, malformed, or readable by others."""

    code = "key-file"
    default_hint = "Give the key file that 'coffer init' wrote, with mode 0600, by --key-file or COFFER_KEY_FILE."


class KeyMissingError(CryptoError):
    """Raised when the repository holds no wrapped key of an epoch that an object names."""

    code = "key-missing"
    default_hint = "An object below keys/ was lost. Bring it back from another location or the escrow copy."


class SignatureError(CryptoError):
    """Raised when a signature does not verify: the object is not from this repository's writers."""

    code = "signature"
    default_hint = "The object was altered or forged. Do not trust it; compare with another location."


# ------------------------------------------------------------------------------------------------ source


class SourceError(PermanentError):
    """Base of what can be wrong with what is backed up."""

    code = "source"
    default_hint = "Check the source's path and permissions."


class SourceMissingError(SourceError):
    """Raised when a path to back up does not exist; nothing was written."""

    code = "source-missing"
    default_hint = "Check the path. Is its disk mounted?"


class SourceReadError(SourceError):
    """Raised when a source cannot be read at all (single unreadable files are warnings)."""

    code = "source-read"
    default_hint = "Run as a user who may read it."


class SourceFormatError(SourceError):
    """Raised when what a source delivers is not in its format: truncated, altered, or of an unknown version."""

    code = "source-format"
    default_hint = (
        "Is the server of a version that Coffer knows? Take the backup anew; if it stays, the source is damaged."
    )


class SourceContainsRepositoryError(SourceError):
    """Raised when the tree to back up holds the repository itself; nothing was written."""

    code = "source-contains-repository"
    default_hint = "Exclude the repository's folder with --exclude, or put the repository elsewhere."


# ------------------------------------------------------------------------------------------------ restore


class RestoreError(PermanentError):
    """Base of what can keep a restore from being done as asked."""

    code = "restore"
    default_hint = "Look at the files that the message names."


class RestoreTargetError(RestoreError):
    """Raised when the target cannot be used as asked; nothing was written."""

    code = "restore-target"
    default_hint = "Give an empty or new folder, or say --overwrite changed (or always) to write over what is there."


class RestoreUnsafePathError(RestoreError):
    """Raised when a snapshot asks for a path outside the target; that file was not written."""

    code = "restore-unsafe-path"
    default_hint = (
        "The snapshot is hostile or damaged. Restore single paths that you know, and check who could write to it."
    )


class RestoreIncompleteError(RestoreError):
    """Raised when some files could not be restored; all others were, and ``details['failures']`` names the rest."""

    code = "restore-incomplete"
    default_hint = "The files named could not be restored; all others were. Try another snapshot for those."

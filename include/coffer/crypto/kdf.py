"""Key derivation: HKDF-SHA256 for keys from keys, Argon2id for keys from passphrases."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from coffer.errors import SizeLimitError

KEY_BYTES = 32
SALT_BYTES = 32
COMMITMENT_BYTES = 32


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """Derive `length` bytes from a uniformly random `secret` (RFC 5869).

    The same inputs give the same bytes; other `salt` or `info` give independent ones.
    """
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def derive_key_and_commitment(secret: bytes, *, salt: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Derive an AEAD key [32 bytes] and its commitment [32 bytes].

    AES-GCM alone does not commit to its key: a ciphertext can be made that opens under two keys. Both halves come from
    one derivation, so whoever shows the commitment has fixed the key (Albertini et al., USENIX Security 2022, §5).
    """
    both = hkdf_sha256(secret, salt=salt, info=info, length=KEY_BYTES + COMMITMENT_BYTES)
    return both[:KEY_BYTES], both[KEY_BYTES:]


@dataclass(frozen=True, slots=True)
class Argon2Params:
    """Cost of turning a passphrase into a key.

    Attributes:
        iterations: Passes over the memory.
        lanes: Parallel lanes.
        memory_kib: Memory [KiB].

    The defaults are the second recommended option of RFC 9106 §4 (64 MiB, for where memory is limited).
    """

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 * 1024

    def __post_init__(self) -> None:
        """Refuse costs out of bounds: they come from an object that is read before any key can authenticate it.

        Raises:
            SizeLimitError: A cost is below RFC 9106's minimum or above what an honest repository asks for.
        """
        if not (1 <= self.iterations <= 64 and 1 <= self.lanes <= 64 and 8 * self.lanes <= self.memory_kib <= 1 << 20):
            raise SizeLimitError(
                f"argon2id cost iterations={self.iterations} lanes={self.lanes} memory_kib={self.memory_kib}: "
                "outside 1-64, 1-64, up to 1048576"
            )


def argon2id(passphrase: bytes, *, salt: bytes, params: Argon2Params) -> bytes:
    """Derive 32 bytes from a passphrase (Argon2id, RFC 9106). Takes `params.memory_kib` of memory while it runs."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id  # only passphrase repositories pay for the import

    kdf = Argon2id(
        salt=salt, length=KEY_BYTES, iterations=params.iterations, lanes=params.lanes, memory_cost=params.memory_kib
    )
    return kdf.derive(passphrase)

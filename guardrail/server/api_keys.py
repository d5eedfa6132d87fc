"""Keys that clients show: read from a file, kept as hashes, and compared in constant time."""

from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from guardrail.errors import OptionError

__all__ = ["ApiKeys"]

# Shorter ones can be guessed by trying.
_SHORTEST = 16


class ApiKeys:
    """The keys that are let in. None of them is kept as it was read.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    @classmethod
    def from_file(cls, path: Path) -> "ApiKeys":
        """Read a file of keys, one a line; blank lines and those that begin with ``#`` are none.

        Raises:
            OptionError: The file cannot be read, has no keys, or one of them cannot be used. No message has
                a key in it.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise OptionError(f"The file of keys {path} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise OptionError(f"The file of keys {path} is not text in UTF-8.") from None
        keys = []
        for number, line in enumerate(lines, start=1):
            key = line.strip()
            if not key or key.startswith("#"):
                continue
            if not key.isascii() or not key.isprintable() or " " in key:
                raise OptionError(
                    f"{path}:{number}: a key is one word of printable ASCII characters; a client cannot send "
                    "another."
                )
            if len(key) < _SHORTEST:
                raise OptionError(
                    f"{path}:{number}: a key of fewer than {_SHORTEST} characters can be guessed. Make one "
                    "with: openssl rand -hex 32"
                )
            keys.append(key)
        if not keys:
            raise OptionError(f"The file of keys {path} has none; write one a line.")
        return cls(keys)

    def admits(self, authorization: bytes | None) -> bool:
        """Whether the value of an ``Authorization`` header is that of a client with a key.

        Args:
            authorization: The header as it was sent; None where there was none.
        """
        scheme, _, key = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        digest = _digest(key.strip())
        # All of them, so that how long it takes does not tell which one it was.
        matches = [compare_digest(digest, known) for known in self._digests]
        return any(matches)


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()

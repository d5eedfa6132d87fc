"""A file that records are appended to, each safe on its own."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from guardrail.errors import GuardrailError, OptionError
from guardrail.utils.json_lines import as_json

__all__ = ["AppendedFile", "check_destination"]


class AppendedFile:
    """Records written line by line.

    Used as a context manager.

    Args:
        path: What the file is called in messages.
        file: The file, unbuffered.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file

    @classmethod
    def at(cls, path: Path, end: int) -> Self:
        """Open a file, making it where there is none, to go on after its first ``end`` bytes.

        Raises:
            OptionError: It cannot be written.
        """
        try:
            file = path.open("r+b" if path.exists() else "x+b", buffering=0)
            file.truncate(end)
            file.seek(end)
        except OSError as error:
            raise OptionError(f"{path} cannot be written: {error.strerror}.") from error
        return cls(path, file)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            GuardrailError: The disk is full, or gone.
        """
        data = f"{as_json(record)}\n".encode()
        try:
            # Unbuffered: when this returns, the line is there, whatever happens to this process.
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise GuardrailError(f"{self.path} cannot be written: {error.strerror}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def check_destination(path: Path, source: Path | None = None) -> None:
    """Find out, before a model is loaded, that a file could not be written.

    Raises:
        OptionError: It is the input, a folder, or in a folder that does not exist.
    """
    if source is not None and path.exists() and path.samefile(source):
        raise OptionError(f"{path} is the file that is read: choose another one for the results.")
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file for the results.")
    if not path.parent.is_dir():
        raise OptionError(f"There is no folder {path.parent} to write {path.name} into.")

"""The server's log: a line of JSON for each event, without what was asked or answered."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["LOGGER", "JsonFormatter", "log_as_json"]

LOGGER = logging.getLogger("guardrail.server")
# Whose messages are known to hold no text of a request.
_KNOWN = ("guardrail", "uvicorn.error")
# Whose loggers say the same with every batch that cannot be sent.
_REPEATING = "opentelemetry"


class OncePerPlace(logging.Filter):
    """Lets through once what a place in OpenTelemetry's code logs, such as that an exporter is down."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if not record.name.startswith(_REPEATING):
            return True
        place = (record.pathname, record.lineno)
        is_new = place not in self._seen
        self._seen.add(place)
        return is_new


class JsonFormatter(logging.Formatter):
    """Writes a record as JSON.

    An error is written as its type and where it was raised: its message, like those of loggers that are not
    the server's own (asyncio writes errors into them), may hold what was said.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        # Not by how it begins: there are other packages whose name does so, too.
        is_known = any(f"{record.name}.".startswith(f"{name}.") for name in _KNOWN)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if is_known else f"(left out) {record.filename}:{record.lineno}",
        }
        facts = getattr(record, "facts", None)
        line |= facts if isinstance(facts, dict) else {}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["raised_at"] = [
                f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
            ]
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(stream: TextIO | None = None) -> None:
    """Have everything that this process logs written as JSON.

    Args:
        stream: Where to; standard error if not given.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(OncePerPlace())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _KNOWN:
        logging.getLogger(name).setLevel(logging.INFO)
    # Otherwise both would print what could not be written, or was warned of, as it stands.
    logging.raiseExceptions = False
    logging.captureWarnings(True)

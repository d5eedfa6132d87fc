"""A person's queue: one SQLite file that many processes write to, and that loses nothing it has confirmed."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardrail.errors import EscalationError, InvalidInputError, OptionError
from guardrail.escalation.case import Case, Item, PersonsAnswer, ReviewLabel, Status, check_answer
from guardrail.utils.files import check_regular
from guardrail.utils.json_lines import json_value

__all__ = ["HumanQueue", "queue_path"]

_PREFIX = "sqlite:///"
# So that a database of something else is told from a queue: "guar".
_APPLICATION = 0x67756172
_VERSION = 1
_SCHEMA = (
    "CREATE TABLE cases (number INTEGER PRIMARY KEY, ticket TEXT NOT NULL UNIQUE, created TEXT NOT NULL,"
    " record TEXT NOT NULL)",
    "CREATE TABLE answers (ticket TEXT PRIMARY KEY REFERENCES cases (ticket), verdict TEXT NOT NULL,"
    " text TEXT, by TEXT NOT NULL, at TEXT NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_SELECT = (
    "SELECT cases.ticket, created, record, verdict, text, by, at"
    " FROM cases LEFT JOIN answers ON answers.ticket = cases.ticket"
)
_LEAST_PREFIX = 4


def queue_path(url: str) -> Path:
    """The file that a queue's URL names: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

    Raises:
        OptionError: It is no such URL.
    """
    name = url.removeprefix(_PREFIX)
    if name == url or not name or name.endswith("/") or name == ":memory:" or "\0" in name:
        raise OptionError(f"{url!r} is no queue; give a file such as sqlite:///guardrail.db.")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise OptionError(f"{url!r} is no queue: there is no such home folder.") from error


class HumanQueue:
    """Cases that wait for a person.

    A ticket is given only after SQLite has committed the case with ``synchronous=FULL`` to its write-ahead
    log: a process that is killed at any moment loses no case whose ticket was given. Every call opens the
    file anew, so a queue may be used from any thread and after a fork.

    Args:
        url: ``sqlite:///path``. The file is made when the first case is put, readable by its owner only: it
            holds what people asked.
        busy_timeout_s: How long to wait while other processes write.

    Raises:
        OptionError: The URL is not of that form.
    """

    def __init__(self, url: str, *, busy_timeout_s: float = 20.0) -> None:
        self.url = url
        # A process may change its working directory.
        self.path = queue_path(url).absolute()
        self._busy_timeout_s = busy_timeout_s

    def make(self) -> None:
        """Make the file if it is not there, so that a queue that cannot be used is known before it is needed.

        Raises:
            EscalationError: It cannot be used.
        """
        with self._open(make=True):
            pass

    def put(self, case: Case) -> str:
        """Queue a case and give its ticket. The same case put again has the same ticket and is there once.

        Raises:
            EscalationError: It could not be written.
        """
        record = json.dumps(case.as_plain(), allow_nan=False)
        with self._open(make=True) as connection:
            row = connection.execute("SELECT record FROM cases WHERE ticket = ?", (case.id,)).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO cases (ticket, created, record) VALUES (?, ?, ?)", (case.id, _now(), record)
                )
            elif row[0] != record:
                raise EscalationError(f"The queue {self.path} has another case by the id {case.id}.")
        return case.id

    def get(self, ticket: str) -> Item:
        """The case of a ticket, or of the beginning of one, if that is enough to tell.

        Raises:
            InvalidInputError: There is no such ticket, or more than one.
            EscalationError: The queue cannot be read.
        """
        with self._open(writing=False) as connection:
            return self._find(connection, ticket)

    def items(self, status: Status | None = None) -> list[Item]:
        """The cases in the order in which they came; all, those waiting, or those answered.

        One whose record cannot be read is among them, with ``problem`` saying so: it keeps no other back.

        Raises:
            InvalidInputError: There is no such queue.
            EscalationError: It cannot be read.
        """
        with self._open(writing=False) as connection:
            rows = connection.execute(f"{_SELECT} ORDER BY number").fetchall()
        items = [self._listed(row) for row in rows]
        return [item for item in items if status is None or item.status == status]

    def answer(self, ticket: str, verdict: ReviewLabel, text: str | None = None, *, by: str) -> Item:
        """Say what becomes of a case. Said again by the same person, it changes nothing.

        Args:
            ticket: As for :meth:`get`.
            verdict: ``approve``, ``edit`` or ``reject``.
            text: The person's own text, for ``edit``.
            by: Who it is.

        Raises:
            InvalidInputError: As for :meth:`get`; or the verdict does not fit the case.
            EscalationError: Somebody answered before, otherwise; or the queue cannot be written.
        """
        said = PersonsAnswer(verdict, text, by, _now())
        with self._open() as connection:
            item = self._find(connection, ticket)
            check_answer(item.case, verdict, text)
            if item.answer is None:
                connection.execute(
                    "INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (item.ticket, verdict, text, by, said.at)
                )
            elif not item.answer.says_the_same_as(said):
                raise EscalationError(
                    f"{item.ticket} was answered before, by {item.answer.by} at {item.answer.at} "
                    f"({item.answer.verdict}). The first answer stands."
                )
            return self._find(connection, item.ticket)

    @contextmanager
    def _open(self, *, make: bool = False, writing: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection within one transaction, which is committed, and on the disk, at the end."""
        try:
            # A pipe would be waited for, and whatever a device takes is gone.
            check_regular(self.path)
            if make:
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            elif not self.path.is_file():
                raise InvalidInputError(f"There is no queue {self.path} yet.")
            # mode=rw: connecting makes no file of its own, which anybody might read.
            address = f"{self.path.as_uri()}?mode=rw"
            # Closing takes back what was not committed.
            with closing(
                sqlite3.connect(address, uri=True, timeout=self._busy_timeout_s, isolation_level=None)
            ) as connection:
                self._prepare(connection)
                connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise EscalationError(f"The queue {self.path} cannot be used: {reason}.") from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        # In one transaction: others may be making the tables between two looks.
        connection.execute("BEGIN")
        is_ready = self._is_ready(connection)
        connection.execute("COMMIT")
        if is_ready:
            return
        self._write_ahead(connection)
        connection.execute("BEGIN IMMEDIATE")
        if not self._is_ready(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")

    def _is_ready(self, connection: sqlite3.Connection) -> bool:
        """Whether the tables are there; refuses a file that is a database of something else."""
        ours, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if (ours, version) == (_APPLICATION, _VERSION):
            return True
        if ours == _APPLICATION:
            raise EscalationError(
                f"The queue {self.path} was made by another version of guardrail ({version})."
            )
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise EscalationError(f"{self.path} is a database of something else. Choose another file.")
        return False

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Change to a write-ahead log, which SQLite does not wait for while others do the same."""
        until = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise EscalationError(
                    f"{self.path} lies where SQLite cannot keep a write-ahead log ({mode})."
                )
            return

    def _find(self, connection: sqlite3.Connection, ticket: str) -> Item:
        rows = connection.execute(f"{_SELECT} WHERE cases.ticket = ?", (ticket,)).fetchall()
        if not rows and len(ticket) >= _LEAST_PREFIX:
            beginning = (len(ticket), ticket)
            rows = connection.execute(
                f"{_SELECT} WHERE substr(cases.ticket, 1, ?) = ? LIMIT 2", beginning
            ).fetchall()
        if len(rows) != 1:
            what = "more than one ticket that begins with" if rows else "no ticket"
            raise InvalidInputError(f"The queue {self.path} has {what} {ticket!r}.")
        return self._item(rows[0])

    def _listed(self, row: tuple[Any, ...]) -> Item:
        try:
            return self._item(row)
        except EscalationError as error:
            ticket, created, _, verdict, text, by, at = row
            answer = PersonsAnswer(verdict, text, by, at) if verdict is not None else None
            nothing = Case(id=ticket, messages=(), draft="", rule="", reason="")
            return Item(ticket, created, nothing, answer, problem=str(error))

    def _item(self, row: tuple[Any, ...]) -> Item:
        ticket, created, record, verdict, text, by, at = row
        answer = PersonsAnswer(verdict, text, by, at) if verdict is not None else None
        try:
            return Item(ticket, created, Case(**json_value(record)), answer)
        except (TypeError, ValueError) as error:
            raise EscalationError(f"The case {ticket} of the queue {self.path} cannot be read.") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

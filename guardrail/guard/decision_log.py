"""Every decision as one line of JSON, whole or not at all.

    {"time": "2026-01-31T12:00:00.000+00:00", "request": "…", "policy": {"name": "…", "sha256": "…"},
     "profile": "…", "model": "…", "answered_by": "…", "action": "abstain", "rule": "…", "reason": "…", …}

``model`` scored the draft, and ``answered_by`` gave it: the same model, or somebody else. ``question`` and
``draft`` and ``answer`` are there as the policy says: not at all, in full, or as :func:`text_digest`; and so
is ``reasoning``, where the model thought before it answered.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guardrail.errors import GuardrailError, OptionError
from guardrail.utils.files import check_regular
from guardrail.utils.json_lines import plain_json
from guardrail.utils.threads import ForkSafeLock

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer

__all__ = ["DecisionLog", "decision_record", "text_digest"]

Texts = Literal["none", "hash", "full"]


class DecisionLog:
    """A file that decisions are added to, from many threads and processes at once.

    A line is one write to a file opened for appending, which the system does not mix with others'. The file
    is opened anew for each, so it may be moved away at any time. A file that is made is readable by its
    owner only.

    Args:
        path: The file: a regular one, not a pipe, whose reader might be waited for, or a device.
        texts: What of questions and answers is written.

    Raises:
        OptionError: The file cannot be written.
    """

    def __init__(self, path: str | Path, texts: Texts = "none") -> None:
        # A process may change its working directory.
        self.path = Path(path).absolute()
        self.texts = texts
        self._lock = ForkSafeLock()
        try:
            os.close(self._open())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OptionError(f"The decision log {self.path} cannot be written: {reason}.") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one line; afterwards it is on the disk.

        Raises:
            GuardrailError: Less than the line was written.
            OSError: The file cannot be written.
            ValueError: A value is no JSON.
        """
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with self._lock:
            file = self._open()
            try:
                if _ends_within_a_line(file):
                    line = b"\n" + line
                if os.write(file, line) != len(line):
                    raise GuardrailError(f"The decision log {self.path} took part of a line only.")
                os.fsync(file)
            finally:
                os.close(file)

    def _open(self) -> int:
        check_regular(self.path)
        return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)


def decision_record(
    answer: "GuardedAnswer",
    policy: str,
    tags: Iterable[str],
    messages: Sequence[Mapping[str, Any]],
    texts: Texts,
) -> dict[str, Any]:
    """The record of one decision.

    Args:
        answer: What was decided and given.
        policy: Name of the policy.
        tags: What the caller said of the request.
        messages: What was asked.
        texts: What of questions and answers is to be in it.
    """
    guarantees = None if answer.guarantees is None else [one._asdict() for one in answer.guarantees]
    record: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request": answer.request,
        "policy": {"name": policy, "sha256": answer.policy_digest},
        "profile": answer.profile_digest,
        "model": answer.model,
        "answered_by": answer.answered_by,
        "action": answer.action,
        "enforced": answer.enforced,
        "rule": answer.rule,
        "reason": answer.reason,
        "outside_domain": answer.outside_domain,
        "confidence": answer.confidence,
        "confidence_score": answer.confidence_score,
        "scores": dict(answer.uncertainty.scores()) if answer.uncertainty else None,
        "quantiles": dict(answer.quantiles),
        "guarantees": guarantees,
        "finish_reason": answer.finish_reason,
        "tags": sorted(tags),
        "escalation": [asdict(attempt) for attempt in answer.escalation.attempts]
        if answer.escalation
        else None,
        "error": answer.error,
        "timings": dict(answer.timings),
    }
    if texts == "full":
        record |= {"question": list(messages), "draft": answer.draft, "answer": answer.text}
        if answer.reasoning:
            record["reasoning"] = answer.reasoning
    elif texts == "hash":
        question = json.dumps(plain_json(list(messages)), sort_keys=True, allow_nan=False)
        said = {"question": question, "draft": answer.draft, "answer": answer.text}
        if answer.reasoning:
            said["reasoning"] = answer.reasoning
        record |= {
            name: text if text is None else text_digest(answer.request, text) for name, text in said.items()
        }
    # A past call in a conversation may hold what JSON does not; a decision is recorded all the same.
    plain: dict[str, Any] = plain_json(record)
    return plain


def text_digest(request: str, text: str) -> str:
    """SHA-256 of a request's id, a line feed and a text (a question: its messages as JSON, keys sorted).

    Who has the text can show that it was this one. The id is another in each line, so that lines do not tell
    that the same was asked twice; but a short text can be found by trying.
    """
    return sha256(f"{request}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _ends_within_a_line(file: int) -> bool:
    """Whether the last writer did not get to the end, as where the disk was full.

    Keeps other processes away until the file is closed: of a write in progress a part may be seen.
    """
    if sys.platform == "win32":
        return False
    fcntl.flock(file, fcntl.LOCK_EX)
    if os.lseek(file, 0, os.SEEK_END) == 0:
        return False
    os.lseek(file, -1, os.SEEK_END)
    return os.read(file, 1) != b"\n"

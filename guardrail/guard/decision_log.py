"""The decision log: every decision as one line of JSON, written whole or not at all.

    {"time": "2026-01-31T12:00:00.000+00:00", "request": "…", "policy": {"name": "…", "sha256": "…"},
     "profile": "…", "model": "…", "answered_by": "…", "action": "abstain", "rule": "…", "reason": "…", …}

``model`` scored the draft, and ``answered_by`` gave it: the same model, or somebody else. ``question`` and
``draft`` and ``answer`` are there as the policy says: not at all, in full, or as :func:`text_digest`; and so
is ``reasoning``, where the model thought before it answered.
"""

import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, cast

from typing_extensions import TypedDict

from guardrail.errors import GuardrailError, OptionError, RecordError
from guardrail.escalation.verdict import VerdictAttempt, VerdictFacts
from guardrail.utils.files import check_regular
from guardrail.utils.json_lines import json_object, plain_json, read_json_lines
from guardrail.utils.threads import ForkSafeLock

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer

__all__ = [
    "DecisionLog",
    "DecisionRecord",
    "PolicyReference",
    "decision_record",
    "read_decisions",
    "text_digest",
]

Texts = Literal["none", "hash", "full"]

# What earlier versions did not write.
_NOT_RECORDED: Mapping[str, object] = {
    "answered_by": "",
    "generated_by": None,
    "message": None,
    "outside_domain": "an earlier version recorded the decision, and did not look whether the profile holds",
    "domain": [],
    "uncertified": "",
    "familiar": None,
    "confidence_interval": None,
    "confidence_score": None,
    "tool_calls": [],
    "sentences": [],
    "usage": None,
    "turns_left_out": 0,
    "released": None,
}


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

    def check(self) -> None:
        """See that a line could be added now, as far as that can be known before it is.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            os.close(self._open())

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


class PolicyReference(TypedDict):
    """Which policy decided.

    Attributes:
        name: Its name.
        sha256: SHA-256 of it.
    """

    name: str
    sha256: str


class DecisionRecord(VerdictFacts):
    """One line of the decision log: the verdict, and what a log tells beside it.

    Where it differs from :class:`~guardrail.escalation.verdict.Verdict`: ``policy`` has the policy's name
    too; ``escalation`` is the list of attempts alone; and what was said is withheld as ``log.text`` says.
    With ``none`` there is no ``question``, ``draft``, ``answer`` or ``reasoning``, and a called tool's name,
    which the model wrote, is empty; with ``hash`` all of these are digests (:func:`text_digest`).

    Attributes:
        time: When it was decided, ISO 8601 in UTC.
        policy: Which policy decided.
        escalation: Every target that was tried; null where the answer was not escalated.
        tags: What the caller said of the request, sorted.
        question: What was asked: the messages, or the digest of them as JSON with sorted keys.
        draft: What the model answered, withheld or not; null where it gave nothing.
        answer: The text that was shown.
        reasoning: What the model thought before it answered; only where it did.
    """

    time: str
    policy: PolicyReference
    escalation: list[VerdictAttempt] | None
    tags: list[str]
    question: NotRequired[list[dict[str, Any]] | str]
    draft: NotRequired[str | None]
    answer: NotRequired[str]
    reasoning: NotRequired[str]


def decision_record(
    answer: "GuardedAnswer",
    policy: str,
    tags: Iterable[str],
    messages: Sequence[Mapping[str, Any]],
    texts: Texts,
) -> DecisionRecord:
    """The record of one decision.

    Args:
        answer: What was decided and given.
        policy: Name of the policy.
        tags: What the caller said of the request.
        messages: What was asked.
        texts: What of questions and answers is to be in it.
    """
    verdict, asked = answer.as_plain(), list(messages)
    escalation, calls = verdict["escalation"], verdict["tool_calls"]

    def told(text: str) -> str:
        return text_digest(answer.request, text) if texts == "hash" else text if texts == "full" else ""

    record = DecisionRecord(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        request=verdict["request"],
        policy=PolicyReference(name=policy, sha256=verdict["policy"]),
        profile=verdict["profile"],
        model=verdict["model"],
        answered_by=verdict["answered_by"],
        generated_by=verdict["generated_by"],
        action=verdict["action"],
        enforced=verdict["enforced"],
        rule=verdict["rule"],
        reason=verdict["reason"],
        message=verdict["message"],
        outside_domain=verdict["outside_domain"],
        domain=verdict["domain"],
        uncertified=verdict["uncertified"],
        familiar=verdict["familiar"],
        confidence=verdict["confidence"],
        confidence_interval=verdict["confidence_interval"],
        confidence_score=verdict["confidence_score"],
        scores=verdict["scores"],
        quantiles=verdict["quantiles"],
        guarantees=verdict["guarantees"],
        tool_calls=[{**call, "name": told(call["name"])} for call in calls],
        sentences=verdict["sentences"],
        finish_reason=verdict["finish_reason"],
        usage=verdict["usage"],
        turns_left_out=verdict["turns_left_out"],
        released=verdict["released"],
        tags=sorted(tags),
        escalation=escalation["attempts"] if escalation is not None else None,
        error=verdict["error"],
        timings=verdict["timings"],
    )
    if texts != "none":
        # A past call in a conversation may hold what JSON does not; a decision is recorded all the same.
        plain: list[dict[str, Any]] = plain_json(asked)
        question = json.dumps(plain, sort_keys=True, allow_nan=False)
        record["question"] = plain if texts == "full" else told(question)
        record["draft"] = answer.draft if answer.draft is None else told(answer.draft)
        record["answer"] = told(answer.text)
        if answer.reasoning:
            record["reasoning"] = told(answer.reasoning)
    # Texts may hold halves of surrogate pairs.
    written: DecisionRecord = plain_json(record)
    return written


def read_decisions(path: str | Path) -> list[DecisionRecord]:
    """The records of a decision log, oldest first; of lines that earlier versions wrote, too.

    Such a line says nothing of what was recorded later. It is given as not known: null, none, or empty. It is
    not known either whether the profile held for its answer, and ``outside_domain`` says so, so that no
    monitor counts it. A line that was not written to its end, as where a disk was full, is left out with a
    warning.

    Raises:
        RecordError: The file cannot be read, or is not a decision log.
    """
    if Path(path).is_file() and not Path(path).stat().st_size:
        return []
    records = []
    for number, line in enumerate(read_json_lines(path), start=1):
        try:
            values = json_object(line)
        except RecordError as error:
            warnings.warn(f"Line {number} of {path} is left out. {error}", RuntimeWarning, stacklevel=2)
            continue
        if not {"request", "policy", "action", "rule", "reason", "enforced"} <= values.keys():
            raise RecordError(f"Line {number} of {path} is not the record of a decision.")
        records.append(cast("DecisionRecord", {**_NOT_RECORDED, **values}))
    return records


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

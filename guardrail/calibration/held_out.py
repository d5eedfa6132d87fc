"""Held-out answers, which a profile was neither fitted nor certified on, and the profiles that ship."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.resources import files
from math import isclose, isfinite
from pathlib import Path
from typing import Any

from guardrail.calibration.profile import Profile
from guardrail.errors import CalibrationError, ForeignProfileError, RecordError
from guardrail.utils.files import read_regular, write_whole
from guardrail.utils.json_lines import as_json, json_object

__all__ = [
    "HeldOut",
    "HeldOutAnswer",
    "builtin_held_out",
    "builtin_profile",
    "builtin_profiles",
    "find_held_out",
    "holds_held_out",
    "read_held_out",
    "write_held_out",
]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out scores, confidences and labels, one entry per answer.

    Attributes:
        scores: Confidence scores, to which thresholds apply; higher is surer.
        confidences: Probabilities of being correct, 0 to 1.
        correct: Whether each answer was judged correct.

    Raises:
        CalibrationError: The lengths differ.
    """

    scores: tuple[float, ...]
    confidences: tuple[float, ...]
    correct: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.scores) == len(self.confidences) == len(self.correct):
            raise CalibrationError(
                f"The held-out part has {len(self.scores)} scores, {len(self.confidences)} confidences and "
                f"{len(self.correct)} labels; each answer needs all three."
            )


def builtin_profiles() -> dict[str, Path]:
    """Paths of the profiles that ship, by model name."""
    # A path rather than a resource, because error messages name the file.
    folder = Path(str(files("guardrail"))) / "data" / "profiles"
    return {file.stem: file for file in sorted(folder.glob("*.json"))}


def builtin_profile(name: str) -> Path | None:
    """Path of the profile that ships for a model, if there is one."""
    return builtin_profiles().get(name)


def builtin_held_out(name: str) -> Path | None:
    """Path of the held-out answers that ship for a model, if there are any."""
    file = Path(str(files("guardrail"))) / "data" / "held_out" / f"{name}.jsonl"
    return file if file.is_file() else None


_HEADER = "held_out_of"
_MOST_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class HeldOutAnswer:
    """A held-out answer.

    Attributes:
        question: The question.
        response: The answer.
        correct: Whether it was judged right.
        finish_reason: Why the answer ended: ``stop``, ``length``, or None if unknown.
        confidence: The profile's probability of being correct, 0 to 1.
        confidence_score: The score behind it, to which thresholds apply.
        scores: Uncertainty scores by name, including ``tokens``, the answer's length.
    """

    question: str
    response: str
    correct: bool
    finish_reason: str | None
    confidence: float
    confidence_score: float
    scores: Mapping[str, float] = field(default_factory=dict)


def find_held_out(profile: str | Path) -> Path | None:
    """Path of a profile's held-out answers: those that ship, or those beside the profile, if there are any.

    Beside ``NAME.json`` they are in ``NAME.held-out.jsonl``.
    """
    profile = Path(profile)
    if builtin_profiles().get(profile.stem) == profile:
        return builtin_held_out(profile.stem)
    beside = profile.with_name(f"{profile.stem}.held-out.jsonl")
    return beside if beside.is_file() else None


def holds_held_out(path: str | Path) -> bool:
    """Whether a file has held-out answers, by its first line."""
    try:
        with Path(path).open("rb") as file:
            return _HEADER in json_object(file.readline().decode())
    except (OSError, UnicodeDecodeError, RecordError):
        return False


def write_held_out(profile: Profile, answers: Sequence[HeldOutAnswer], path: str | Path) -> None:
    """Write held-out answers atomically.

    Raises:
        OptionError: The file cannot be written.
    """
    lines = "".join(f"{as_json(asdict(answer))}\n" for answer in answers)
    header = {
        _HEADER: profile.digest,
        "model": profile.author,
        "answers": len(answers),
        "sha256": _digest(lines),
    }
    write_whole(Path(path), f"{as_json(header)}\n{lines}")


def read_held_out(path: str | Path, profile: Profile) -> tuple[HeldOutAnswer, ...]:
    """Read the held-out answers of this profile.

    Raises:
        ForeignProfileError: They belong to another profile.
        RecordError: The file does not exist, is not a file of held-out answers, or was altered.
    """
    path = Path(path)
    try:
        text = read_regular(path, _MOST_BYTES).decode()
    except FileNotFoundError as error:
        raise RecordError(f"There is no file {path}. guardrail profile held-out makes one.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {getattr(error, 'strerror', error)}.") from error
    first, _, lines = text.partition("\n")
    header = _header(first, path)
    if header[_HEADER] != profile.digest:
        raise ForeignProfileError(
            f"{path} has the held-out answers of another profile ({str(header[_HEADER])[:12]}), not of this "
            f"one "
            f"({profile.digest[:12]}). Make the right ones with guardrail profile held-out, from the answers "
            f"that "
            "guardrail calibrate kept.",
            ["profile"],
        )
    if header.get("sha256") != _digest(lines):
        raise RecordError(
            f"{path} was altered since it was written. Make it again with guardrail profile held-out."
        )
    answers = tuple(
        _answer(line, number, path)
        for number, line in enumerate(lines.removesuffix("\n").split("\n"), start=2)
    )
    if problem := _contradiction(profile, answers):
        raise RecordError(
            f"{path} does not match its profile: {problem}. Make it again with guardrail profile held-out."
        )
    return answers


def _header(line: str, path: Path) -> dict[str, Any]:
    try:
        header = json_object(line)
    except RecordError:
        header = {}
    if _HEADER not in header:
        raise RecordError(f"{path} has no held-out answers. guardrail profile held-out makes such a file.")
    return header


def _answer(line: str, number: int, path: Path) -> HeldOutAnswer:
    try:
        answer = HeldOutAnswer(**json_object(line))
        numbers = (answer.confidence, answer.confidence_score, *answer.scores.values())
        if not all(map(isfinite, numbers)) or not isinstance(answer.correct, bool):
            raise ValueError("a score is not a number, or correct is neither true nor false")
    except (TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"Line {number} of {path} is not a held-out answer: {error}.") from error
    return answer


def _contradiction(profile: Profile, answers: Sequence[HeldOutAnswer]) -> str:
    """How the answers contradict the profile, in words; empty if they do not."""
    told, expected = len(answers), profile.making.parts.get("report")
    if told != expected:
        return f"it has {told:,} answers, but {expected:,} were held out"
    right = sum(answer.correct for answer in answers)
    if right != profile.report.get("correct", right):
        return f"{right:,} of its answers are right, unlike in the profile's report"
    for number, answer in enumerate(answers, start=2):
        confidence = profile.assess_score(answer.confidence_score, answer.scores).confidence
        if confidence is None or not isclose(confidence, answer.confidence, rel_tol=1e-9, abs_tol=1e-12):
            return f"the profile gives a different confidence to the answer in line {number}"
    return ""


def _digest(lines: str) -> str:
    return sha256(lines.encode()).hexdigest()

"""The confidence of a profile as a method, on questions that the profile was not made of."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrail.calibration.author import Author
from guardrail.calibration.confidence import Observation
from guardrail.calibration.questions import Question, question_text
from guardrail.errors import ForeignProfileError, OptionError, ProfileError, RecordError
from guardrail.evaluation.datasets.opening import QuestionSource
from guardrail.evaluation.methods.method import Answered, Method
from guardrail.evaluation.methods.named import CONFIDENCE
from guardrail.utils.json_lines import json_object, read_json_lines, split_lines

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile

__all__ = ["confidence_method", "generation_notes", "refuse_known_questions", "refuse_others_answers"]


def confidence_method(profile: "Profile") -> Method:
    """The confidence score of a profile: what its thresholds apply to.

    Raises:
        ProfileError: The profile was made without labels, and gives no confidence.
    """
    model = profile.confidence_model
    if model is None:
        raise ProfileError(
            "The profile was made without labels and gives no confidence: calibrate with some."
        )
    options = profile.scorer.options(exgrad=any(term.score == "exgrad" for term in model.terms))

    def estimate(answers: Sequence[Answered]) -> list[float]:
        values = []
        for answer in answers:
            scores = {**answer.scored[options].scores(), "tokens": float(len(answer.token_ids))}
            values.append(-model.score(Observation(scores, answer.hidden)))
        return values

    return Method(
        name=CONFIDENCE,
        title="Confidence of the profile",
        paper="guardrail calibrate",
        estimate=estimate,
        options=(options,),
        depth=next(iter(profile.depths), None),
    )


def refuse_known_questions(
    profile: "Profile", profile_path: Path, source: QuestionSource, questions: Iterable[Question]
) -> str:
    """Make sure that a profile is not reported on with the questions that it was made of.

    Which these were is told by the answers that lie beside the profile, or by the questions that ship.

    Returns:
        What could not be made sure of, in words, or nothing.

    Raises:
        OptionError: Some of the questions are among those that the profile was made of.
    """
    if source.sha256 == profile.making.questions_sha256:
        raise OptionError(
            f"{source.title} is the file that the profile was made of: what was learned from it cannot be "
            "reported on with it. guardrail profile show has the figures on its held-out part."
        )
    known = _questions_of(profile, profile_path)
    if known is None:
        return (
            "The answers that the profile was made of do not lie beside it: that none of these questions is "
            "among them was not made sure of."
        )
    both = [question.line for question in questions if _plain(question.text) in known]
    if both:
        raise OptionError(
            f"{len(both):,} of the questions are among those that the profile was made of (line {both[0]} "
            "first): take them out, or evaluate without --profile."
        )
    return ""


def refuse_others_answers(profile: "Profile", questions: Iterable[Question]) -> None:
    """Make sure that a profile gives its confidence to no answers but those of its author.

    Raises:
        ForeignProfileError: An answer is somebody else's.
    """
    for question in questions:
        named = question.answered_by if question.response is not None else None
        if outside := profile.outside_domain(Author(named) if named else None, profile.model.name):
            raise ForeignProfileError(
                f"The profile gives no confidence to the answer of line {question.line}: {outside}. Evaluate "
                'answers of that model (named as "model" in their lines), or leave out --profile.',
                ["answered_by"],
            )


def generation_notes(profile: "Profile", generation: dict[str, Any]) -> list[str]:
    """What answers of this run were generated with otherwise than those of the profile."""
    made = profile.making.generation
    return [
        f"The profile was made of answers with {name} {made[name]}, and these have {generation.get(name)}."
        for name in made
        if name in generation and made[name] != generation[name]
    ]


def _questions_of(profile: "Profile", path: Path) -> set[str] | None:
    beside = path.with_name(f"{path.stem if path.suffix == '.json' else path.name}.answers.jsonl")
    if beside.is_file():
        return _texts(read_json_lines(beside))
    for shipped in (files("guardrail") / "data" / "questions").iterdir():
        data = shipped.read_bytes()
        if sha256(data).hexdigest() == profile.making.questions_sha256:
            return _texts(split_lines(data))
    return None


def _texts(lines: Iterable[str]) -> set[str]:
    """The questions of lines; one that cannot be read asks nothing that could be known."""
    texts = set()
    for line in lines:
        with suppress(RecordError):
            texts.add(_plain(question_text(json_object(line))))
    return texts


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()

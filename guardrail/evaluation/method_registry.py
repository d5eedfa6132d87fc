"""The methods that names stand for, and the confidence of a profile as a method."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrail.errors import ForeignProfileError, OptionError, ProfileError, RecordError
from guardrail.evaluation.datasets import QuestionSource
from guardrail.evaluation.methods import (
    GRADIENTS,
    AnsweredQuestion,
    Method,
    ablations,
    gradient_method,
    one_pass_methods,
)
from guardrail.labelling.provenance import Author
from guardrail.labelling.questions import Question, question_text
from guardrail.scoring.uncertainty import Observation
from guardrail.utils.json_lines import json_object, read_json_lines, split_lines
from guardrail.utils.text import did_you_mean

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile

__all__ = [
    "CONFIDENCE",
    "GROUPS",
    "confidence_method",
    "generation_notes",
    "methods_named",
    "refuse_known_questions",
    "refuse_others_answers",
]


GROUPS = ("one_pass", "ablations", "sampling", "all")
# The confidence of a profile, which is a method where a profile is given.
CONFIDENCE = "confidence"
# Commas, but for those within brackets.
_BETWEEN = re.compile(r",(?![^\[]*\])")
_WITH_ARGUMENTS = re.compile(r"(\w+)\[(.*)\]")


def methods_named(
    names: Sequence[str],
    sampled: Mapping[str, Method],
    confidence: Method | None = None,
    token: int | None = None,
) -> tuple[Method, ...]:
    """The methods that a user asked for, each once, in the order asked for.

    Args:
        names: Names of methods or groups (``one_pass``, ``ablations``, ``sampling``, ``all``); one text may
            hold several, with commas between.
        sampled: The methods that need samples or further questions.
        confidence: A profile's confidence, where there is one: it is then among the methods in any case.
        token: t* of gradients that name none; None for the rule of the model's chat template.

    Raises:
        OptionError: There is no such method, or an argument of it is wrong.
    """
    found: dict[str, Method] = {} if confidence is None else {confidence.name: confidence}
    for given in names:
        for name in _BETWEEN.split(given):
            for method in _found(name.strip(), sampled, confidence, token):
                found.setdefault(method.name, method)
    if not found:
        raise OptionError("No method was named: give some with --methods.")
    return tuple(found.values())


def _found(
    name: str, sampled: Mapping[str, Method], confidence: Method | None, token: int | None
) -> Sequence[Method]:
    one_pass, changed = one_pass_methods(token), ablations(token)
    unchanged = {name: one_pass[name] for name in ("hybridgrad", "semgrad", "paragrad")}
    groups: dict[str, Mapping[str, Method]] = {
        "one_pass": one_pass,
        "ablations": {**unchanged, **changed},
        "sampling": sampled,
        "all": {**one_pass, **changed, **sampled},
    }
    if name in groups:
        return list(groups[name].values())
    if name in groups["all"]:
        return [groups["all"][name]]
    if name == CONFIDENCE and confidence is None:
        raise OptionError("confidence is a profile's: name the profile with --profile.")
    if name == CONFIDENCE:
        return []
    if match := _WITH_ARGUMENTS.fullmatch(name):
        if match[1] in GRADIENTS:
            return [gradient_method(match[1], _arguments(name, match[2]), token)]
        if match[1] in groups["all"]:
            raise OptionError(f"{match[1]} takes no arguments; {' and '.join(GRADIENTS)} do.")
    known = [*GROUPS, CONFIDENCE, *one_pass, *sampled]
    near = did_you_mean(name.partition("[")[0], known)
    raise OptionError(f"There is no method {name!r}{near or '.'} Methods and groups: {', '.join(known)}.")


def _arguments(name: str, text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not mark for _, mark, _ in pairs):
        raise OptionError(
            f"The arguments of {name!r} are name=value, with commas between, such as "
            "hybridgrad[semantic_token=-1,reduction=mean]."
        )
    return {key.strip(): value.strip() for key, _, value in pairs}


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

    def estimate(answers: Sequence[AnsweredQuestion]) -> list[float]:
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

"""What names stand for: methods, among them the confidence of a profile, and data sets of questions."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import (
    ForeignProfileError,
    GuardrailError,
    MissingDependencyError,
    OptionError,
    ProfileError,
    RecordError,
)
from guardrail.evaluation.methods import (
    GRADIENTS,
    AnsweredQuestion,
    Method,
    ablations,
    gradient_method,
    one_pass_methods,
)
from guardrail.labelling.accepted_answers import shape_of
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
    "HUB_DATASETS",
    "HubDataset",
    "QuestionSource",
    "confidence_method",
    "generation_notes",
    "hub_rows",
    "in_common_shape",
    "methods_named",
    "open_questions",
    "refuse_known_questions",
    "refuse_others_answers",
]


def in_common_shape(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its accepted answers, without duplicates, as a list in ``answers``; other fields stay.

    A row without accepted answers is returned unchanged: it may have a label, or nothing to judge by.

    Raises:
        RecordError: Its answers have an unknown shape.
    """
    accepted = shape_of(values).accepted
    others = {name: value for name, value in values.items() if name not in ("answer", "truthful answer")}
    return {**others, "answers": list(accepted)} if accepted else dict(values)


class HubDataset(NamedTuple):
    """A data set on the hub.

    Attributes:
        title: Its title.
        paper: Its source.
        path: Its id on the hub.
        config: Its configuration, if any.
        split: The split with answers that results are usually reported on.
    """

    title: str
    paper: str
    path: str
    config: str | None
    split: str


HUB_DATASETS: Mapping[str, HubDataset] = {
    "sciq": HubDataset("SciQ", "Welbl et al. (2017), W-NUT", "allenai/sciq", None, "test"),
    "triviaqa": HubDataset(
        "TriviaQA", "Joshi et al. (2017), ACL", "mandarjoshi/trivia_qa", "rc.nocontext", "validation"
    ),
    "truthfulqa": HubDataset(
        "TruthfulQA", "Lin et al. (2022), ACL", "truthfulqa/truthful_qa", "generation", "validation"
    ),
    "nq_open": HubDataset(
        "NQ-open", "Lee et al. (2019), ACL", "google-research-datasets/nq_open", None, "validation"
    ),
}


def hub_rows(dataset: HubDataset, limit: int | None = None) -> list[dict[str, Any]]:
    """The first rows of a data set, each with ``question`` and ``answers``.

    Args:
        dataset: The data set.
        limit: Number of rows; all by default.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        GuardrailError: The hub cannot be reached, or has changed the data set's form.
    """
    try:
        # By name, because the package has no types when it is not installed.
        load_dataset = import_module("datasets").load_dataset
    except ImportError as error:
        raise MissingDependencyError(
            f"{dataset.title} is read through datasets, which is not installed: "
            "pip install 'guardrail-llm[evaluate]'. Or give a file of questions."
        ) from error
    try:
        rows = load_dataset(dataset.path, dataset.config, split=dataset.split)
        some = rows if limit is None else rows.select(range(min(limit, len(rows))))
        return [question_row(row) for row in some]
    # Network, hub, disk, or a changed form: each raises its own errors.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise GuardrailError(
            f"{dataset.title} ({dataset.path}) could not be loaded from the hub: {reason}. Fetch it where "
            f"there is "
            "a network, or give a file of questions instead."
        ) from error


def question_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The question and accepted answers of a row, without passages and wrong answers."""
    shaped = in_common_shape(row)
    return {"question": shaped["question"], "answers": shaped["answers"]}


@dataclass(frozen=True, slots=True)
class QuestionSource:
    """Questions and their origin.

    Attributes:
        title: Name in reports.
        stem: Stem of file names for results.
        path: The file; None for a data set from the hub.
        lines: JSON Lines in the shape that ``parse_questions`` reads. Invalid lines are kept, to be reported
            by number.
        sha256: Hash of the file, or of the lines of a data set.
    """

    title: str
    stem: str
    path: Path | None
    lines: Sequence[str]
    sha256: str


def open_questions(source: str, limit: int | None = None) -> QuestionSource:
    """Open a file of questions, or a data set by its name.

    Args:
        source: ``sciq``, ``triviaqa``, ``truthfulqa``, ``nq_open``, or a JSON Lines file.
        limit: Use only this many lines.

    Raises:
        RecordError: The file does not exist or is not JSON Lines.
        MissingDependencyError: A data set needs ``datasets``, which is not installed.
        GuardrailError: The hub cannot be reached.
    """
    path = Path(source)
    if source in HUB_DATASETS and not path.exists():
        dataset = HUB_DATASETS[source]
        rows = [json.dumps(row, ensure_ascii=False) for row in hub_rows(dataset, limit)]
        return QuestionSource(dataset.title, source, None, rows, sha256("\n".join(rows).encode()).hexdigest())
    if not path.exists():
        raise RecordError(
            f"There is no file {source} and no data set of that name; the data sets are "
            f"{', '.join(HUB_DATASETS)}."
        )
    lines = read_json_lines(path)[:limit]
    return QuestionSource(path.name, path.stem, path, lines, sha256(path.read_bytes()).hexdigest())


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

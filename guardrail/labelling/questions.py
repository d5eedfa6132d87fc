"""Questions read from a file's lines, and the options for answering and scoring them."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import OptionError, PromptError, RecordError
from guardrail.labelling.accepted_answers import Shape, shape_of, unread_answers
from guardrail.labelling.provenance import author_of, name_problem, same_name
from guardrail.models.chat_template import part_text, with_text
from guardrail.models.documents import undeclared, without_documents
from guardrail.models.sampling import Sampling
from guardrail.scoring.batches import Failure
from guardrail.scoring.options import ScoringOptions
from guardrail.utils.json_lines import is_text, json_object, kind_of, shown, text_of

if TYPE_CHECKING:
    from guardrail.models.prompt import Prompt
    from guardrail.models.trace import FinishReason

__all__ = [
    "ANSWER_FIELDS",
    "DEFAULT_DEPTH",
    "LabelOptions",
    "Question",
    "Questions",
    "accepted_answers",
    "grounded",
    "last_asked",
    "of_one_author",
    "parse_questions",
    "question_text",
    "transcript",
]


# Best for a probe on SmolLM2: layer 20 of 30, fitted on one set of questions and tested on another.
DEFAULT_DEPTH = 2 / 3


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """Options for answering and scoring questions.

    Attributes:
        sampling: How answers are generated; greedy by default.
        system: System message for every conversation that has none.
        scoring: How answers are scored.
        depth: Fraction of the layers at which a hidden state is kept for a probe; None keeps none.
        batch_size: Questions that the model reads at once.
        answered_by: Author of the answers, if not the model.
        chat_template_kwargs: Arguments of the chat template that the model was opened with; stored answers
            with other arguments are not resumed.
        sentences: Score each sentence of an answer too, by the same options, for a profile of sentences.
        keep_positions: Keep with each answer what t* can be chosen by, where ``scoring`` names none.
        document_gain: Score how much the documents of each prompt moved its answer, which takes one more
            forward pass; questions without a document are refused.

    Raises:
        OptionError: The batch size is less than 1.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=64))
    system: str | None = None
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    depth: float | None = DEFAULT_DEPTH
    batch_size: int = 16
    answered_by: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    keep_positions: bool = True
    document_gain: bool = False
    sentences: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is {self.batch_size}; it must be at least 1.")


# Fields of an answer's record; a field of the line with one of these names is dropped.
ANSWER_FIELDS = (
    "response",
    "correct",
    "judged_by",
    "reason",
    "finish_reason",
    "uncertainty",
    "usage",
    "hidden",
    "model",
    "answered_by",
    "scoring",
    "sentences",
    "error",
    "error_type",
)
# Fields that the prompt is read from, the first one present.
_PROMPTS = ("messages", "prompt", "question", "query")
_LABELLED = "correct"
_FINISH_REASONS = ("stop", "length", "reasoning_length")
# Fields for the author of a response; ours takes precedence over the providers'.
_AUTHORS = ("answered_by", "model")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what is known about its answer.

    Attributes:
        line: Line number in the file, from 1.
        fields: Fields passed through to the answer's record.
        prompt: What the model reads.
        text: The question as shown to a judge.
        accepted: Accepted answers; any of them is right.
        response: The given answer; None if the model should answer.
        correct: Whether the given answer is right, if the line says so.
        finish_reason: Why the response ended, if the line says so.
        answered_by: Author of the response, if the line says so.
        digest: Identifies the question by its prompt and given response.
        shape: How the line says what is right, such as ``SQuAD``; empty if it does not.
        without_document: The prompt without its documents: the passage that comes with a question, or what
            messages declare (:mod:`guardrail.models.documents`); None where it has none.
    """

    line: int
    fields: Mapping[str, Any]
    prompt: "Prompt"
    text: str
    accepted: tuple[str, ...]
    response: str | None
    correct: bool | None
    finish_reason: "FinishReason | None"
    digest: str
    answered_by: str | None = None
    shape: str = ""
    without_document: "Prompt | None" = None


class Questions(NamedTuple):
    """The lines of a file: usable questions, and why the others were refused."""

    usable: Sequence[Question]
    refused: Sequence[Failure]

    @property
    def shapes(self) -> str:
        """How the lines say what is right, each shape with its count; empty if none does."""
        counted = Counter(question.shape for question in self.usable if question.shape)
        return "; ".join(f"{shape} ({number:,})" for shape, number in counted.most_common())


def parse_questions(lines: Iterable[str], *, judge_needs_answers: bool = True) -> Questions:
    """Parse the lines of a file. Errors of single lines are returned, not raised.

    Duplicate questions are refused: in two parts of the data, one would be tested on what the other taught.
    Blank lines are skipped.

    Args:
        lines: The lines.
        judge_needs_answers: Whether lines must say what is right, because the judge cannot.
    """
    usable: dict[str, Question] = {}
    refused: list[Failure] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json_object(line)
            question = _question(values, number)
            if question.digest in usable:
                same = usable[question.digest].line
                raise RecordError(f"The line is the same question as line {same}; each question counts once.")
            if judge_needs_answers and question.response is not None and not _can_be_judged(question):
                raise RecordError(
                    'Nothing says whether the response is right: add "correct": true or false, or "answers".'
                )
            if judge_needs_answers and not _can_be_judged(question) and (unread := unread_answers(values)):
                raise RecordError(
                    f"The answer may be in {unread}, but in an unknown shape: give the accepted answers as "
                    '"answers", or leave it out.'
                )
        except RecordError as error:
            refused.append(Failure(number, str(error), error.exit_status))
        else:
            usable[question.digest] = question
    return Questions(list(usable.values()), refused)


def grounded(questions: Questions) -> Questions:
    """The questions with a document in their prompt; the others are refused."""
    said = (
        "The line has no document whose effect on the answer could be scored: give one as the context of its "
        'question, or say in a message which part of it is one ("document").'
    )
    without = [one.line for one in questions.usable if one.without_document is None]
    refused = [Failure(line, said, RecordError.exit_status) for line in without]
    usable = [one for one in questions.usable if one.without_document is not None]
    return Questions(usable, sorted([*questions.refused, *refused]))


def of_one_author(questions: Questions, answered_by: str | None, model: str) -> tuple[Questions, str | None]:
    """The lines whose answers have one author, and the author's name; None for the model that scores them.

    Args:
        questions: The lines. That model answers lines without a response; a response without an author is
            attributed to ``answered_by``, or else to that model too.
        answered_by: The author; lines of other authors are refused.
        model: Name of the model that scores the answers.

    Raises:
        OptionError: No author was named and the answers have several; or the name is invalid.
    """
    declared = author_of(answered_by)
    if declared is None:
        named = [_named(question, None, model) for question in questions.usable]
        counts = Counter(name.casefold() for name in named)
        if len(counts) > 1:
            listed = ", ".join(f"{name} ({count:,} lines)" for name, count in counts.most_common())
            raise OptionError(
                f"The answers come from several models, but a profile is for one: {listed}. Select one with "
                "--answered-by NAME."
            )
        author = named[0] if named else model
        return questions, None if same_name(author, model) else author
    usable, refused = [], [*questions.refused]
    for question in questions.usable:
        name = _named(question, declared.name, model)
        if same_name(name, declared.name):
            usable.append(question)
        else:
            said = f"The answer is from {name}, but the profile is for {declared.name}."
            refused.append(Failure(question.line, said, RecordError.exit_status))
    author = declared.name
    return Questions(usable, sorted(refused)), None if same_name(author, model) else author


def _named(question: Question, otherwise: str | None, model: str) -> str:
    return model if question.response is None else question.answered_by or otherwise or model


_BEGINS_WITH_ROLE = re.compile(r"[a-z]+: ")


_BETWEEN, _USER = "\n\n", "user: "


def transcript(turns: Sequence[tuple[object, str]]) -> str:
    """The turns of a conversation, each as its role and what was said; a single turn as what was said."""
    if len(turns) == 1:
        return turns[0][1]
    return _BETWEEN.join(f"{role}: {content}" for role, content in turns)


def last_asked(text: str) -> str:
    """The user's last message in a transcript; any other text as it is."""
    before, _, last = text.rpartition(f"{_BETWEEN}{_USER}")
    return last if before and _BEGINS_WITH_ROLE.match(text) else text


def question_text(values: Mapping[str, Any]) -> str:
    """The question as text for a person or a judge; several turns become a transcript."""
    for name in ("question", "query", "prompt"):
        if isinstance(values.get(name), str):
            return str(values[name])
    messages = values.get("messages")
    turns = [
        (message.get("role"), _said(message))
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict) and message.get("role") != "system"
    ]
    return transcript(turns)


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [str(content)]
    return "".join(part_text(part) or "" for part in parts)


def accepted_answers(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The accepted answers of a line, in any common shape; none if it has none.

    Raises:
        RecordError: Their shape is unknown.
    """
    return tuple(one if isinstance(one, str) else json.dumps(one) for one in shape_of(values).accepted)


def _can_be_judged(question: Question) -> bool:
    return question.correct is not None or bool(question.accepted)


def _question(values: Mapping[str, Any], number: int) -> Question:
    if isinstance(values.get("scoring"), dict) and "uncertainty" in values:
        raise RecordError(
            "The line is a result of guardrail score. Give the line it was made from, with correct or "
            "answers."
        )
    values = _flat(values)
    response, correct = values.get("response"), values.get("correct")
    if response is not None:
        response = text_of(response, "response")
    if correct is not None and not isinstance(correct, bool):
        raise RecordError(f"correct is {shown(correct)}; it must be true or false.")
    if correct is not None and response is None:
        raise RecordError('The line has "correct" but no response that it could be about.')
    finish_reason = values.get("finish_reason")
    if finish_reason is not None and finish_reason not in _FINISH_REASONS:
        known = '"stop", "length" or "reasoning_length"'
        raise RecordError(f"finish_reason is {shown(finish_reason)}; it must be {known}.")
    shape = Shape(_LABELLED) if correct is not None else shape_of(values)
    # A given response answered the line's prompt as it is, so no choices or context are added.
    prompt, without = _prompts(values, shape if response is None else Shape(shape.name))
    accepted = () if correct is not None else accepted_answers(values)
    for answer in accepted:
        text_of(answer, shape.name)
    return Question(
        line=number,
        fields={name: value for name, value in values.items() if name not in ANSWER_FIELDS},
        prompt=prompt,
        text=question_text(values),
        accepted=accepted,
        response=response,
        correct=correct,
        finish_reason=finish_reason,
        digest=_digest(prompt, response, finish_reason, without if "messages" in values else None),
        answered_by=None if response is None else _author(values),
        shape=shape.name,
        without_document=without,
    )


def _author(values: Mapping[str, Any]) -> str | None:
    name = next((name for name in _AUTHORS if values.get(name) is not None), None)
    if name is None:
        return None
    if problem := name_problem(values[name]):
        raise RecordError(f"{name} {problem}.")
    return str(values[name]).strip()


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The line with its question in the usual place; some data sets nest it beside the choices."""
    question = values.get("question")
    if isinstance(question, Mapping) and isinstance(question.get("stem"), str):
        return {"choices": question.get("choices"), **values, "question": question["stem"]}
    if question is None and isinstance(values.get("question_stem"), str):
        return {**values, "question": values["question_stem"]}
    return dict(values)


def _prompts(values: Mapping[str, Any], shape: Shape) -> "tuple[Prompt, Prompt | None]":
    """What the model reads, and the same without its documents; None where it has none."""
    name = next((name for name in _PROMPTS if values.get(name) is not None), None)
    if name is None:
        given = ", ".join(sorted(values)[:8]) or "nothing"
        raise RecordError(f"The line needs question, query, prompt or messages; it has {given}.")
    if name != "messages":
        text = text_of(values[name], name)
        if not text.strip():
            raise RecordError(f"{name} is empty.")
        if name == "prompt":
            return text, None
        choices = "".join(f"\n- {choice}" for choice in shape.choices)
        asked = f"{text}\n{choices}" if choices else text
        if not shape.context:
            return text_of(asked, name), None
        return text_of(f"{shape.context}\n\n{asked}", name), asked
    messages = values["messages"]
    if not isinstance(messages, list):
        raise RecordError(f"messages is {kind_of(messages)}; a list of messages is expected.")
    if not is_text(json.dumps(messages, ensure_ascii=False)):
        raise RecordError("messages contains half a surrogate pair, which is not valid text.")
    try:
        messages = with_text(messages)
        return undeclared(messages), without_documents(messages)
    except PromptError as error:
        raise RecordError(str(error)) from error


def _digest(
    prompt: "Prompt",
    response: str | None,
    finish_reason: "FinishReason | None",
    without_document: "Prompt | None",
) -> str:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    # Left out where nothing is declared, so that answers from before it could be keep their digest.
    declared = [] if without_document is None else [without_document]
    text = json.dumps([messages, response, finish_reason, *declared], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]

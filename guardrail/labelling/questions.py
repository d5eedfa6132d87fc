"""A line of a file of questions, and the options by which questions are answered and scored."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import OptionError, PromptError, RecordError
from guardrail.labelling.accepted_answers import Shape, shape_of, unread_answers
from guardrail.labelling.author import author_of, name_problem, same_name
from guardrail.models.chat_template import part_text, with_text
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
    "generation_arguments",
    "of_one_author",
    "parse_questions",
    "question_text",
]


# Where a probe read best on SmolLM2: layer 20 of 30, fitted on one set of questions and tried on another.
DEFAULT_DEPTH = 2 / 3


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """How questions are answered and scored.

    Attributes:
        sampling: How answers are generated; greedily by default.
        system: A system message before every conversation that has none.
        scoring: How they are scored.
        depth: Fraction of the layers at which a hidden state is kept for a probe; None for none.
        batch_size: How many questions the model reads at once.
        answered_by: Who gave the answers, if it was not the model.
        chat_template_kwargs: Arguments of the chat template that the model was opened with, for answers that
            are stored: those given under others are not gone on with.

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

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is {self.batch_size}; it is at least 1.")


def generation_arguments(options: LabelOptions) -> dict[str, Any]:
    """What answers are generated with, as plain values; of the system message only its hash."""
    sampling, system = options.sampling, options.system
    most = sampling.max_reasoning_tokens
    # Not in the files of earlier versions, and nothing to a model that does not reason.
    reasoning = {} if most is None else {"max_reasoning_tokens": most}
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "system_sha256": sha256(system.encode()).hexdigest() if system is not None else None,
        **reasoning,
        **({"chat_template_kwargs": dict(given)} if (given := options.chat_template_kwargs) else {}),
    }


# What the record of an answer holds of ours; a field of the line by one of these names gives way.
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
    "error",
    "error_type",
)
# What the model reads: where there are several, the first of these.
_PROMPTS = ("messages", "prompt", "question", "query")
_LABELLED = "correct"
_FINISH_REASONS = ("stop", "length", "reasoning_length")
# Who gave a response: our own word goes before a provider's.
_AUTHORS = ("answered_by", "model")


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and what is known of its answer.

    Attributes:
        line: Its number in the file, from 1.
        fields: What is passed through to the answer's record.
        prompt: What the model reads.
        text: What a judge is told was asked.
        accepted: Answers that are right; any of them will do.
        response: What was answered; None where the model is to answer.
        correct: Whether that was right, where the line says so.
        finish_reason: Why the response ended, where the line says so.
        answered_by: Who gave the response, where the line says so.
        digest: What tells it from another: the prompt and the response given.
        shape: In which shape the line says what is right, such as ``SQuAD``; empty where it does not.
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


class Questions(NamedTuple):
    """The lines of a file: those that can be used, and why the others cannot."""

    usable: Sequence[Question]
    refused: Sequence[Failure]

    @property
    def shapes(self) -> str:
        """In which shapes the lines say what is right, each with how many do; empty where none does."""
        counted = Counter(question.shape for question in self.usable if question.shape)
        return "; ".join(f"{shape} ({number:,})" for shape, number in counted.most_common())


def parse_questions(lines: Iterable[str], *, judge_needs_answers: bool = True) -> Questions:
    """Read the lines of a file. What is wrong with one of them is told; nothing is raised.

    A question that was there before is refused: in two parts of the data it would be judged by what it
    taught. Blank lines are passed over.

    Args:
        lines: The lines.
        judge_needs_answers: Whether nobody can say what is right where a line does not.
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
                raise RecordError(f"The line asks the same as line {same}; each question counts once.")
            if judge_needs_answers and question.response is not None and not _can_be_judged(question):
                raise RecordError(
                    'Nothing says whether the response is right: add "correct": true or false, or "answers".'
                )
            if judge_needs_answers and not _can_be_judged(question) and (unread := unread_answers(values)):
                raise RecordError(
                    f"What is right may stand in {unread}, in no shape that is known: give the answers that "
                    'are right as "answers", or leave it out.'
                )
        except RecordError as error:
            refused.append(Failure(number, str(error), error.exit_status))
        else:
            usable[question.digest] = question
    return Questions(list(usable.values()), refused)


def of_one_author(questions: Questions, answered_by: str | None, model: str) -> tuple[Questions, str | None]:
    """The lines whose answers are of one author, and the author's name: None for the model that scores them.

    Args:
        questions: The lines. One without a response is answered by that model; a response that names nobody
            is of whoever ``answered_by`` names, or else of that model too.
        answered_by: The author. Lines of others are refused then.
        model: What the model is called that scores the answers.

    Raises:
        OptionError: Nobody was named, and the answers are of several authors; or it is no name.
    """
    declared = author_of(answered_by)
    if declared is None:
        named = [_named(question, None, model) for question in questions.usable]
        counts = Counter(name.casefold() for name in named)
        if len(counts) > 1:
            listed = ", ".join(f"{name} ({count:,} lines)" for name, count in counts.most_common())
            raise OptionError(
                f"The answers are of several models, and a profile is of one: {listed}. Take those of one of "
                "them with --answered-by NAME."
            )
        author = named[0] if named else model
        return questions, None if same_name(author, model) else author
    usable, refused = [], [*questions.refused]
    for question in questions.usable:
        name = _named(question, declared.name, model)
        if same_name(name, declared.name):
            usable.append(question)
        else:
            said = f"The answer is {name}'s, and the profile is to be of {declared.name}'s answers."
            refused.append(Failure(question.line, said, RecordError.exit_status))
    author = declared.name
    return Questions(usable, sorted(refused)), None if same_name(author, model) else author


def _named(question: Question, otherwise: str | None, model: str) -> str:
    return model if question.response is None else question.answered_by or otherwise or model


def question_text(values: Mapping[str, Any]) -> str:
    """What was asked, for a person or a judge; a conversation of several turns as a transcript."""
    for name in ("question", "query", "prompt"):
        if isinstance(values.get(name), str):
            return str(values[name])
    messages = values.get("messages")
    turns = [
        (message.get("role"), _said(message))
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict) and message.get("role") != "system"
    ]
    return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {content}" for role, content in turns)


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [str(content)]
    return "".join(part_text(part) or "" for part in parts)


def accepted_answers(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The accepted answers of a line, in whichever common shape; none where it gives none.

    Raises:
        RecordError: They have no shape that is known.
    """
    return tuple(one if isinstance(one, str) else json.dumps(one) for one in shape_of(values).accepted)


def _can_be_judged(question: Question) -> bool:
    return question.correct is not None or bool(question.accepted)


def _question(values: Mapping[str, Any], number: int) -> Question:
    if isinstance(values.get("scoring"), dict) and "uncertainty" in values:
        raise RecordError(
            "The line is a result of guardrail score. Give the line it was made of, with correct or answers."
        )
    values = _flat(values)
    response, correct = values.get("response"), values.get("correct")
    if response is not None:
        response = text_of(response, "response")
    if correct is not None and not isinstance(correct, bool):
        raise RecordError(f"correct is {shown(correct)}; it can be true or false.")
    if correct is not None and response is None:
        raise RecordError("The line says what is correct of a response, and has no response.")
    finish_reason = values.get("finish_reason")
    if finish_reason is not None and finish_reason not in _FINISH_REASONS:
        known = '"stop", "length" or "reasoning_length"'
        raise RecordError(f"finish_reason is {shown(finish_reason)}; it can be {known}.")
    shape = Shape(_LABELLED) if correct is not None else shape_of(values)
    # What a given response was an answer to is what the line says, and nothing is added.
    prompt = _prompt(values, shape if response is None else Shape(shape.name))
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
        digest=_digest(prompt, response, finish_reason),
        answered_by=None if response is None else _author(values),
        shape=shape.name,
    )


def _author(values: Mapping[str, Any]) -> str | None:
    name = next((name for name in _AUTHORS if values.get(name) is not None), None)
    if name is None:
        return None
    if problem := name_problem(values[name]):
        raise RecordError(f"{name} {problem}.")
    return str(values[name]).strip()


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A line whose question stands where it is looked for: some sets have it beside its choices."""
    question = values.get("question")
    if isinstance(question, Mapping) and isinstance(question.get("stem"), str):
        return {"choices": question.get("choices"), **values, "question": question["stem"]}
    if question is None and isinstance(values.get("question_stem"), str):
        return {**values, "question": values["question_stem"]}
    return dict(values)


def _prompt(values: Mapping[str, Any], shape: Shape) -> "Prompt":
    name = next((name for name in _PROMPTS if values.get(name) is not None), None)
    if name is None:
        given = ", ".join(sorted(values)[:8]) or "nothing"
        raise RecordError(f"The line needs a question, query, prompt or messages; it has {given}.")
    if name != "messages":
        text = text_of(values[name], name)
        if not text.strip():
            raise RecordError(f"{name} is empty.")
        if name == "prompt":
            return text
        choices = "".join(f"\n- {choice}" for choice in shape.choices)
        parts = [shape.context, f"{text}\n{choices}" if choices else text]
        return text_of("\n\n".join(filter(None, parts)), name)
    messages = values["messages"]
    if not isinstance(messages, list):
        raise RecordError(f"messages is {kind_of(messages)}, and a list of messages is expected.")
    if not is_text(json.dumps(messages, ensure_ascii=False)):
        raise RecordError("messages holds half a surrogate pair, which is no text.")
    try:
        return with_text(messages)
    except PromptError as error:
        raise RecordError(str(error)) from error


def _digest(prompt: "Prompt", response: str | None, finish_reason: "FinishReason | None") -> str:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    text = json.dumps([messages, response, finish_reason], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]

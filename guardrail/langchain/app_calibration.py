"""Calibrate a model within an app, on the prompts that the app builds from a data set's questions.

A profile holds for prompts like those it was fitted on. A chain adds a system message, documents and earlier
turns, so the chain is run on every question, and the profile is fitted on the prompts its model receives.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from guardrail.calibration.calibrate import calibrate as make_profile
from guardrail.calibration.options import FitOptions
from guardrail.calibration.profile import Profile, write_profile
from guardrail.errors import GuardrailError, OptionError
from guardrail.labelling.collection import collect
from guardrail.labelling.judges import as_judge
from guardrail.labelling.questions import LabelOptions, parse_questions
from guardrail.langchain.chat_model import ChatGuardrail
from guardrail.langchain.message_conversion import prompt_of
from guardrail.utils.files import write_whole
from guardrail.utils.json_lines import plain_json
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["calibrate"]


def calibrate(
    app: "LocalModel | Runnable[Any, Any]",
    dataset: Iterable[Mapping[str, Any]],
    *,
    output: str | Path,
    model: "LocalModel | None" = None,
    as_input: Callable[[Mapping[str, Any]], Any] | None = None,
    judge: str | None = None,
    labelling: LabelOptions | None = None,
    fit: FitOptions | None = None,
    progress: ProgressCallback | None = None,
) -> Profile:
    """Fit a profile for a local model, or for the model within a chain, and write it to a file.

    A chain is run on each row. The prompt of its model's last call, as the chain rendered it, is kept in
    ``NAME.questions.jsonl`` beside the profile. The model then answers these prompts on its own, and the
    answers are scored and judged as by ``guardrail calibrate``. They are kept in ``NAME.answers.jsonl``, from
    which a repeated call resumes. The chain's own answers are not used, so a policy within it may withhold
    them.

    Args:
        app: Local model, or chain that contains a :class:`~guardrail.langchain.ChatGuardrail` or another chat
            model in place of ``model``.
        dataset: One row per question, as in the lines of a file for ``guardrail calibrate``, with the
            accepted answers.
        output: Path of the profile.
        model: Local model that answers, if it cannot be found in the chain.
        as_input: Function that makes the chain's input from a row; the default takes the row's ``input``, or
            else its ``question``.
        judge: Name of the judge, as for ``guardrail calibrate``.
        labelling: Options for answering and scoring the questions.
        fit: Options for fitting the profile.
        progress: Callback that receives each step.

    Returns:
        The profile.

    Raises:
        OptionError: The chain has no local model, or called no chat model for a row.
        CalibrationError: The answers do not suffice to fit a profile.
        RecordError: A row cannot be used, or the files hold something else.
    """
    output = Path(output)
    rows = [dict(row) for row in dataset]
    # Imported here, so that importing this module does not load torch.
    from guardrail.models.local import LocalModel

    if not isinstance(app, LocalModel | Runnable):
        raise OptionError(f"A {type(app).__name__} is neither a LocalModel nor a LangChain chain.")
    if isinstance(app, LocalModel):
        answering, lines = app, rows
    else:
        chat = _chat_of(app)
        found = model or (chat.guard.model if chat else None)
        if found is None:
            raise OptionError("The chain has no ChatGuardrail. Give model=…, the local model in it.")
        answering, given = found, as_input or _input_of
        lines = [_as_asked(app, chat, row, given, at) for at, row in enumerate(rows, start=1)]
    questions = output.with_name(f"{output.stem}.questions.jsonl")
    lines = [plain_json(line) for line in lines]
    write_whole(questions, "".join(f"{json.dumps(line)}\n" for line in lines))
    named = as_judge(judge) if judge else None
    parsed = parse_questions(map(json.dumps, lines), judge_needs_answers=named is None or named.needs_answers)
    collected = collect(
        parsed,
        named,
        output.with_name(f"{output.stem}.answers.jsonl"),
        lambda: answering,
        labelling or LabelOptions(chat_template_kwargs=answering.chat_template_kwargs),
        model_name=answering.name,
        recheck=True,
        progress=progress,
    )
    profile = make_profile(collected, questions, fit or FitOptions()).profile
    write_profile(profile, output)
    return profile


class _LastPrompt(BaseCallbackHandler):
    """Callback handler that keeps the messages of the last chat model call."""

    raise_error = True

    def __init__(self) -> None:
        self.messages: Sequence[BaseMessage] | None = None

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Keep the prompt."""
        self.messages = messages[-1]


def _as_asked(
    app: Runnable[Any, Any],
    chat: ChatGuardrail | None,
    row: Mapping[str, Any],
    as_input: Callable[[Mapping[str, Any]], Any],
    at: int,
) -> dict[str, Any]:
    """Return the row with the prompt that the chain built from it."""
    prompt = _LastPrompt()
    try:
        app.invoke(as_input(row), config={"callbacks": [prompt]})
    except GuardrailError:
        # A withheld answer raises as well, but by then the prompt is known.
        if prompt.messages is None:
            raise
    if prompt.messages is None:
        raise OptionError(f"The chain called no chat model for row {at}: there is no prompt to calibrate on.")
    asked = prompt_of(prompt.messages)
    messages = chat.guard.spoken(asked).messages if chat else asked
    named = ("messages", "question", "query", "prompt", "input", "context")
    others = {name: value for name, value in row.items() if name not in named}
    return {**others, "messages": [dict(message) for message in messages]}


def _input_of(row: Mapping[str, Any]) -> Any:
    for name in ("input", "question"):
        if name in row:
            return row[name]
    has = ", ".join(row) or "nothing"
    raise OptionError(f"A row has neither input nor question, but {has}. Give as_input.")


def _chat_of(app: Runnable[Any, Any]) -> ChatGuardrail | None:
    """Find the guarded chat model of a chain; None unless there is exactly one."""
    nodes = [app, *(node.data for node in app.get_graph().nodes.values())]
    chats = {id(one): one for one in map(_unbound, nodes) if isinstance(one, ChatGuardrail)}
    return next(iter(chats.values())) if len(chats) == 1 else None


def _unbound(node: Any) -> Any:
    while isinstance(bound := getattr(node, "bound", None), Runnable):
        node = bound
    return node

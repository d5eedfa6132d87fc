"""The reply of a chat model: a message with what may be shown and its verdict, or data that fits a schema."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.messages import content as blocks
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableAssign, RunnableLambda, RunnableMap, RunnableParallel
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel

from guardrail.errors import AbstainedError, OptionError
from guardrail.escalation.verdict import Verdict, withholds
from guardrail.guard.answer import GuardedAnswer, confidence_percent
from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.tool_parsing import Said
from guardrail.langchain.verdicts import VERDICT_KEY, sealed, verdict_of
from guardrail.utils.json_lines import plain_json

__all__ = [
    "OnAbstain",
    "Shown",
    "parsed_by",
    "schema_asked",
    "schema_of",
    "shown_of",
    "told_of_schema",
    "told_to_tracers",
]


OnAbstain = Literal["message", "refusal", "raise"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a caller gets of an answer. Where it is withheld, nothing of the draft is in it.

    Attributes:
        text: The answer, or the policy's message in its place.
        metadata: ``response_metadata``: the model's name, why the answer ended, the verdict.
        usage: Tokens read and written for the draft, shown or not.
        refuses: Whether the text is to be marked as standing in the place of an answer.
        calls: Calls of tools.
        invalid: Those that cannot be read.
        reasoning: What the model thought before the answer.
        asked: What was asked.
        abstained: What is to be raised in place of it all. Not raised where the draft is still at hand: who
            looks into a traceback would find it there.
    """

    text: str = field(repr=False)
    metadata: dict[str, Any]
    usage: UsageMetadata | None
    refuses: bool = False
    calls: tuple[ToolCall, ...] = ()
    invalid: tuple[InvalidToolCall, ...] = ()
    reasoning: str = field(default="", repr=False)
    asked: Sequence[BaseMessage] = field(default=(), repr=False)
    abstained: AbstainedError | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        verdict: Verdict = self.metadata[VERDICT_KEY]
        return verdict

    def result(self) -> ChatResult:
        """The whole as one message.

        Raises:
            AbstainedError: Nothing answers, and the caller wants this in place of a message.
        """
        self._check()
        message = AIMessage(
            tool_calls=list(self.calls),
            invalid_tool_calls=list(self.invalid),
            **self._content(self.text),
            **self._facts(),
        )
        message.response_metadata = self._sealed(message)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def last_chunk(self, told: str = "") -> ChatGenerationChunk:
        """The whole as the last chunk of a stream, the only one with the verdict.

        Args:
            told: What was streamed before. A text that does not go on from there stands below it.

        Raises:
            AbstainedError: As for :meth:`result`.
        """
        self._check()
        rest = self.text[len(told) :] if self.text.startswith(told) else f"\n\n{self.text}"
        written = [
            *((call["name"], json.dumps(plain_json(call["args"])), call["id"]) for call in self.calls),
            *((call["name"], call["args"], call["id"]) for call in self.invalid),
        ]
        chunks = [
            tool_call_chunk(name=name, args=args, id=identity, index=index)
            for index, (name, args, identity) in enumerate(written)
        ]
        content = self._content(rest)
        message = AIMessageChunk(tool_call_chunks=chunks, chunk_position="last", **content, **self._facts())
        message.response_metadata = self._sealed(AIMessageChunk(content=told) + message)
        return ChatGenerationChunk(message=message)

    def _sealed(self, whole: AIMessage) -> dict[str, Any]:
        verdict = sealed(self.verdict, asked=self.asked, said=parts_of(whole))
        return {**self.metadata, VERDICT_KEY: verdict}

    def _check(self) -> None:
        if self.abstained is not None:
            raise self.abstained

    def _facts(self) -> dict[str, Any]:
        return {"response_metadata": self.metadata, "usage_metadata": self.usage}

    def _content(self, text: str) -> dict[str, Any]:
        if not self.refuses:
            # LangChain makes a block of reasoning of it, as of what other providers give.
            thought = {"additional_kwargs": {"reasoning_content": self.reasoning}} if self.reasoning else {}
            return {"content": text, **thought}
        make = getattr(blocks, "create_refusal_block", None)
        if make is not None:
            return {"content": [make(text)]}
        # A core without such a block reads refusals here; the text stays where a reader looks for it.
        return {"content": text, "additional_kwargs": {"refusal": text}}


def shown_of(
    answer: GuardedAnswer, said: Said, on_abstain: OnAbstain, policy: str, *, with_draft: bool = False
) -> Shown:
    """What may be seen of an answer; from here on its draft is gone.

    Args:
        answer: What the guard gave.
        said: What the draft calls, as it was read.
        on_abstain: What happens where nothing answers.
        policy: The policy's name.
        with_draft: Put the draft into the verdict, withheld or not.
    """
    replied = answer.escalation is not None and answer.escalation.source is not None
    nothing_answers = answer.is_withheld and not replied
    verdict = answer.as_plain(draft=with_draft)
    abstained = None
    if nothing_answers and on_abstain == "raise":
        abstained = AbstainedError(
            f"The policy {policy!r} withheld the answer ({answer.action}, by its rule {answer.rule!r}, "
            f"{_confidence(answer)}: {answer.reason}). It says: {answer.text}",
            verdict,
        )
    usage = answer.usage and UsageMetadata(
        input_tokens=answer.usage.prompt_tokens,
        output_tokens=answer.usage.completion_tokens,
        total_tokens=answer.usage.total_tokens,
    )
    if usage and answer.reasoning_tokens:
        usage["output_token_details"] = OutputTokenDetails(reasoning=answer.reasoning_tokens)
    metadata: dict[str, Any] = {"model_name": answer.model, VERDICT_KEY: verdict}
    if answer.finish_reason is not None:
        metadata["finish_reason"] = answer.finish_reason
    if answer.is_withheld:
        # What was shown before the rest was withheld is no refusal.
        was_shown = answer.released is not None and bool(answer.released.text)
        refuses = nothing_answers and on_abstain == "refusal" and not was_shown
        return Shown(answer.text, metadata, usage, refuses=refuses, abstained=abstained)
    text = answer.text if said.text is None else said.text
    return Shown(
        text,
        metadata,
        usage,
        calls=tuple(said.calls),
        invalid=tuple(said.invalid),
        reasoning=answer.reasoning,
    )


def _confidence(answer: GuardedAnswer) -> str:
    # LangChain hands the run of a stream to nobody: a trace has of it what the error says.
    return "confidence " + ("unknown" if answer.confidence is None else confidence_percent(answer.confidence))


# What a schema has one of at least; a function of OpenAI's form has none of them.
_KEYWORDS = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "properties", "type"})


def schema_of(schema: Any) -> dict[str, Any]:
    """The JSON schema of a pydantic class, a TypedDict, a schema, or a function of OpenAI's form, whole.

    Raises:
        OptionError: It is none of these.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        # LangChain's form writes out what is referred to, and leaves out what refers to itself.
        return schema.model_json_schema()
    if isinstance(schema, Mapping) and _KEYWORDS & schema.keys() and "parameters" not in schema:
        return dict(schema)
    try:
        form = convert_to_json_schema(schema)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise OptionError(f"{_named(schema)} is no schema that an answer can be held to: {error}") from error
    if not _KEYWORDS & form.keys():
        raise OptionError(f"{_named(schema)} is no schema that an answer can be held to: it says of nothing.")
    return form


def told_to_tracers(schema: Any, method: str) -> dict[str, Any]:
    """The option by which LangChain tells tracers of a schema, where it can read it."""
    try:
        convert_to_json_schema(schema)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return {}
    return {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}


def schema_asked(form: Any) -> dict[str, Any] | None:
    """What ``response_format`` asks for, in OpenAI's form or as :func:`schema_of`; None for a text.

    Raises:
        OptionError: It is of another form.
    """
    kind = form.get("type") if isinstance(form, Mapping) else None
    if form is None or (kind == "text" and len(form) == 1):
        return None
    if kind == "json_object" and len(form) == 1:
        return {"type": "object"}
    if kind != "json_schema":
        return schema_of(form)
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if not isinstance(schema, Mapping):
        raise OptionError(
            'response_format has no schema: {"type": "json_schema", "json_schema": {"schema": …}}.'
        )
    return dict(schema)


def told_of_schema(prompt: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A prompt that says which form the answer is to have; a model that is only held to it guesses."""
    told = [dict(message) for message in prompt]
    for message in reversed(told):
        if message["role"] == "user":
            message["content"] += f"\n\nAnswer with JSON that fits this schema:\n{json.dumps(schema)}"
            break
    return told


def parsed_by(
    model: Runnable[Any, Any], schema: Mapping[str, Any] | type, *, include_raw: bool
) -> Runnable[Any, Any]:
    """A model whose messages are read as data.

    Args:
        model: Gives JSON.
        schema: What it fits; a pydantic class gives objects of that class, everything else dicts.
        include_raw: Give ``{"raw", "parsed", "parsing_error"}``.
    """
    parser: BaseOutputParser[Any] = JsonOutputParser()
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        parser = PydanticOutputParser(pydantic_object=schema)
    read: Runnable[Any, Any] = RunnableLambda(_answered) | parser
    if not include_raw:
        return model | read
    # Not by functions without a name, nor by RunnablePassthrough.assign: these cannot be pickled.
    whole = RunnableAssign(RunnableParallel(parsed=itemgetter("raw") | read, parsing_error=_nothing))
    failed = RunnableAssign(RunnableParallel(parsed=_nothing))
    return RunnableMap(raw=model) | whole.with_fallbacks([failed], exception_key="parsing_error")


def _answered(message: BaseMessage) -> BaseMessage:
    """The message, if it is an answer: a policy's words in its place are no data."""
    verdict = verdict_of(message)
    if verdict is not None and withholds(verdict):
        raise AbstainedError(
            f"The policy withheld the answer by its rule {verdict['rule']!r}: {message.text}", verdict
        )
    return message


def _nothing(_: Any) -> None:
    return None


def _named(schema: Any) -> str:
    return str(getattr(schema, "__name__", None) or repr(schema)[:60])

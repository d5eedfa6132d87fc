"""Replies of the chat model: a message with the answer that may be shown and its verdict, or parsed data."""

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
    """The part of an answer that a caller receives. If it is withheld, it contains nothing of the draft.

    Attributes:
        text: Answer, or the policy's message in its place.
        metadata: ``response_metadata``: name of the model, finish reason and verdict.
        usage: Tokens read and written for the draft, shown or not.
        refuses: Whether to mark the text as a refusal.
        calls: Tool calls.
        invalid: Tool calls that could not be parsed.
        reasoning: Reasoning of the model before the answer.
        asked: Messages of the request.
        abstained: Error to raise instead of returning a message. It is raised only after the draft is out of
            scope, because a traceback would expose it.
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
        """Make a single message.

        Raises:
            AbstainedError: Nothing answers, and the caller asked for an error in place of a message.
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
        """Make the last chunk of a stream, the only one with the verdict.

        Args:
            told: Text streamed so far. A text that does not continue it is added below, after a blank line.

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
            # LangChain turns it into a reasoning block, as it does for other providers.
            thought = {"additional_kwargs": {"reasoning_content": self.reasoning}} if self.reasoning else {}
            return {"content": text, **thought}
        make = getattr(blocks, "create_refusal_block", None)
        if make is not None:
            return {"content": [make(text)]}
        # Versions of langchain-core without refusal blocks read refusals here; the text stays in the content.
        return {"content": text, "additional_kwargs": {"refusal": text}}


def shown_of(
    answer: GuardedAnswer, said: Said, on_abstain: OnAbstain, policy: str, *, with_draft: bool = False
) -> Shown:
    """Reduce an answer to what may be shown, and drop its draft.

    Args:
        answer: Answer of the guard.
        said: Tool calls parsed from the draft.
        on_abstain: What to return or raise if the answer is withheld and nothing replaces it.
        policy: Name of the policy.
        with_draft: Put the draft into the verdict, whether or not it is withheld.
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
        # If a part was shown before the rest was withheld, the text is not a refusal.
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
    # LangChain gives no access to the run of a stream, so its trace holds only what the error says.
    return "confidence " + ("unknown" if answer.confidence is None else confidence_percent(answer.confidence))


# A JSON schema has at least one of these keys; a function in OpenAI's form has none.
_KEYWORDS = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "properties", "type"})


def schema_of(schema: Any) -> dict[str, Any]:
    """Make a complete JSON schema from a pydantic class, TypedDict, JSON schema or function in OpenAI's form.

    Raises:
        OptionError: The schema is none of these.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        # LangChain's conversion inlines references, and drops recursive ones.
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
    """Make the option by which LangChain reports a schema to tracers; empty if it cannot convert it."""
    try:
        convert_to_json_schema(schema)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return {}
    return {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}


def schema_asked(form: Any) -> dict[str, Any] | None:
    """Read the JSON schema from a ``response_format``; None if it asks for text.

    It accepts OpenAI's form and everything that :func:`schema_of` accepts.

    Raises:
        OptionError: It has another form.
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
    """Add the schema to the last user message; a model that is only constrained by it has to guess."""
    told = [dict(message) for message in prompt]
    for message in reversed(told):
        if message["role"] == "user":
            message["content"] += f"\n\nAnswer with JSON that fits this schema:\n{json.dumps(schema)}"
            break
    return told


def parsed_by(
    model: Runnable[Any, Any], schema: Mapping[str, Any] | type, *, include_raw: bool
) -> Runnable[Any, Any]:
    """Parse a model's messages into data.

    Args:
        model: Model that writes JSON.
        schema: Schema of the JSON. A pydantic class yields instances of it, anything else dicts.
        include_raw: Return ``{"raw", "parsed", "parsing_error"}``.
    """
    parser: BaseOutputParser[Any] = JsonOutputParser()
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        parser = PydanticOutputParser(pydantic_object=schema)
    read: Runnable[Any, Any] = RunnableLambda(_answered) | parser
    if not include_raw:
        return model | read
    # Lambdas and RunnablePassthrough.assign are avoided because they cannot be pickled.
    whole = RunnableAssign(RunnableParallel(parsed=itemgetter("raw") | read, parsing_error=_nothing))
    failed = RunnableAssign(RunnableParallel(parsed=_nothing))
    return RunnableMap(raw=model) | whole.with_fallbacks([failed], exception_key="parsing_error")


def _answered(message: BaseMessage) -> BaseMessage:
    """Return the message if it is an answer; a policy's message in its place must not be parsed as data.

    Raises:
        AbstainedError: The answer was withheld.
    """
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

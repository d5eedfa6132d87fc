"""From a guarded answer to the message that LangChain carries: what may be shown, and the verdict."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.messages import content as blocks
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from guardrail.errors import AbstainedError
from guardrail.escalation.verdict import Verdict
from guardrail.guard.answer import confidence_percent
from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.tool_parsing import Said
from guardrail.langchain.verdicts import VERDICT_KEY, sealed
from guardrail.utils.json_lines import plain_json

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer

__all__ = ["OnAbstain", "Shown", "shown_of"]


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
    answer: "GuardedAnswer", said: Said, on_abstain: OnAbstain, policy: str, *, with_draft: bool = False
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
        refuses = nothing_answers and on_abstain == "refusal"
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


def _confidence(answer: "GuardedAnswer") -> str:
    # LangChain hands the run of a stream to nobody: a trace has of it what the error says.
    return "confidence " + ("unknown" if answer.confidence is None else confidence_percent(answer.confidence))

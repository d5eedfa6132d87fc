"""One request of a chat model: what its guard is asked, and what of the answer may be seen."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guardrail.langchain.showing import Shown, shown_of
from guardrail.langchain.structured import told_of_schema
from guardrail.langchain.tool_calls import ToolReader

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.guard.guard import Guard
    from guardrail.langchain.call_options import CallOptions
    from guardrail.models.steering import Steering

__all__ = ["Request"]


class Request:
    """One request. It alone reads the draft's calls, so that requests that are run together do not mix.

    Args:
        guard: The guard.
        prompt: What is asked.
        options: The options of the call.
        steering: What the generation is told.
        with_draft: Whether the verdict holds the draft.
    """

    def __init__(
        self,
        guard: "Guard",
        prompt: Sequence[Mapping[str, Any]],
        options: "CallOptions",
        steering: "Steering",
        *,
        with_draft: bool,
    ) -> None:
        self.prompt = prompt if options.json_schema is None else told_of_schema(prompt, options.json_schema)
        self._guard, self._options, self._with_draft = guard, options, with_draft
        self._reader = ToolReader(guard.model.tokenizer, options.tools, self._rendered)
        self.arguments: dict[str, Any] = {
            "tags": options.policy_tags,
            "steering": steering,
            "calls_in": self._reader.names_in if options.tools else None,
        }

    def shown(self, answer: "GuardedAnswer") -> Shown:
        """What may be seen of the answer."""
        on_abstain, policy = self._options.on_abstain, self._guard.policy.name
        return shown_of(answer, self._reader.said, on_abstain, policy, with_draft=self._with_draft)

    def _rendered(self) -> str:
        from guardrail.models.decoding import decode
        from guardrail.models.prompt import encode_prompt

        tokenizer = self._guard.model.tokenizer
        return decode(tokenizer, encode_prompt(tokenizer, self.prompt, self._options.tools).ids)

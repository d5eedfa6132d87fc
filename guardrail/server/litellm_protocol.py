"""LiteLLM's generic guardrail API: what its proxy sends about a call, and what it is answered.

The proxy sends the question (``pre_call``) and the response (``post_call``) apart, each with the id of the
call. The response comes without its question.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from guardrail.labelling.provenance import name_problem
from guardrail.langchain.answer_parts import AnswerCall
from guardrail.server.openai_protocol import ChatMessage

__all__ = ["GATEWAY_PATH", "GatewayCall", "GatewayOptions", "blocked", "intervened", "passed"]

GATEWAY_PATH = "/beta/litellm_basic_guardrail_api"


class GatewayOptions(BaseModel):
    """What the proxy's configuration says: ``additional_provider_specific_params`` of the guardrail.

    Attributes:
        answered_by: Name of the model that answers, as the profile has it.
        flagged: What becomes of a flagged answer. ``warn`` puts the policy's warning below its text. The
            proxy drops that from a stream, and gives the answer without it; therefore ``block`` unless said.
    """

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    answered_by: str | None = None
    flagged: Literal["block", "warn"] = "block"

    @field_validator("answered_by")
    @classmethod
    def _names_a_model(cls, value: str | None) -> str | None:
        if value is not None and (problem := name_problem(value)):
            raise ValueError(problem)
        return value


class GatewayCall(BaseModel):
    """The body of ``POST /beta/litellm_basic_guardrail_api``.

    A later version of the proxy may send more. What this one does not know is refused as soon as there is
    something in it: it may be a part of the answer.

    Attributes:
        input_type: Whether it is about the question of a call or about the response.
        litellm_call_id: Id of the call; the same for both.
        structured_messages: The question; the proxy sends none with a response.
        texts: The texts of either.
        images: Images of either.
        tools: Tools that the model is offered.
        tool_calls: Calls of tools, of either.
        model: Name of the model: the one that is asked for, or what the response says of itself.
        request_data: Whose key the proxy was called with.
        additional_provider_specific_params: What the proxy's configuration says.
        litellm_trace_id: Id of the trace; of no use here, as are the two below.
        request_headers: Headers of the client's request.
        litellm_version: The proxy's version.
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    input_type: Literal["request", "response"]
    litellm_call_id: str | None = None
    structured_messages: list[ChatMessage] | None = None
    texts: list[str] | None = None
    images: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    model: str | None = None
    request_data: dict[str, Any] | None = None
    additional_provider_specific_params: Annotated[GatewayOptions | None, Field()] = None
    litellm_trace_id: str | None = None
    request_headers: dict[str, str] | None = None
    litellm_version: str | None = None

    @property
    def options(self) -> GatewayOptions:
        """What the proxy's configuration says."""
        return self.additional_provider_specific_params or GatewayOptions()

    @property
    def owner(self) -> str | None:
        """The hash of the key that the proxy was called with; None where it takes none."""
        value = (self.request_data or {}).get("user_api_key_hash")
        return value if isinstance(value, str) else None

    @property
    def problem(self) -> str:
        """Why neither a question nor a response can be read from it, in words; empty if one can."""
        unknown = sorted(name for name, value in (self.model_extra or {}).items() if value)
        if unknown:
            named = unknown[0] if unknown[0].isidentifier() and len(unknown[0]) < 40 else "a field"
            return f"the gateway sends {named}, which this version does not know"
        if self.images:
            return "it has images, which no text model reads"
        if self.input_type == "request":
            return "" if self.structured_messages else "it has no messages; only chats can be checked"
        if len(self.texts or ()) > 1:
            return "it has several texts: answers that cannot be told apart, or parts of one"
        if not any(self.texts or ()) and not self.tool_calls:
            return "it is empty"
        if any(call is None for call in map(_read, self.tool_calls or ())):
            return "it calls a tool in a way that cannot be read"
        return ""

    @property
    def text(self) -> str:
        """The text of the response."""
        return "".join(self.texts or ())

    @property
    def calls(self) -> list[AnswerCall]:
        """The calls of tools in the response, where all can be read."""
        return [call for call in map(_read, self.tool_calls or ()) if call is not None]


def _read(call: dict[str, Any]) -> AnswerCall | None:
    """A call of a tool; None where it cannot be read."""
    function = call.get("function")
    if call.get("type") not in (None, "function") or not isinstance(function, dict):
        return None
    name, arguments, identity = function.get("name"), function.get("arguments"), call.get("id")
    if not isinstance(name, str) or not name.strip():
        return None
    try:
        given = json.loads(arguments or "{}") if isinstance(arguments, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict):
        return None
    return AnswerCall(name, given, identity if isinstance(identity, str) else None)


def passed() -> dict[str, Any]:
    """The answer by which the proxy goes on and changes nothing."""
    return {"action": "NONE"}


def blocked(reason: str) -> dict[str, Any]:
    """The answer by which the proxy tells its client an error and nothing of the response.

    Args:
        reason: What the client is told.
    """
    return {"action": "BLOCKED", "blocked_reason": reason}


def intervened(text: str) -> dict[str, Any]:
    """The answer by which the proxy puts a text in place of the response's.

    Args:
        text: The text.
    """
    return {"action": "GUARDRAIL_INTERVENED", "texts": [text]}

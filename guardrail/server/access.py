"""Who may use which route, and what a caller sees of a verdict."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from starlette.types import Scope

from guardrail.server.api_keys import CALLER, Caller
from guardrail.server.http_errors import ApiError
from guardrail.server.key_file import Role, Sight

__all__ = [
    "POLICY_HEADER",
    "QUEUE_PATH",
    "check_role",
    "least",
    "may_see_metrics",
    "policy_for",
    "seen_document",
    "seen_headers",
]

POLICY_HEADER = "x-guardrail-policy"

QUEUE_PATH = "/v1/guardrail/queue"
_METRICS_PATH = "/metrics"


def may_see_metrics(caller: Caller, client: str | None, *, has_keys: bool) -> bool:
    """Whether somebody may read the server's metrics.

    Args:
        caller: Who asks.
        client: The address that they ask from.
        has_keys: Whether the server has keys; otherwise this machine may read them, and nobody else.
    """
    if has_keys:
        return caller.role == "metrics"
    try:
        return client is not None and ip_address(client).is_loopback
    except ValueError:
        return False


def check_role(scope: Scope, caller: Caller, *, has_keys: bool) -> None:
    """See that a caller may use a path.

    Raises:
        ApiError: They may not.
    """
    path = scope["path"]
    needed: Role = "client"
    if path == _METRICS_PATH:
        client = scope.get("client")
        if may_see_metrics(caller, client and client[0], has_keys=has_keys):
            return
        needed = "metrics"
    elif path == QUEUE_PATH or path.startswith(f"{QUEUE_PATH}/"):
        needed = "reviewer"
    if caller.role != needed:
        raise ApiError(
            403,
            f"This path is for keys of the role {needed}.",
            kind="permission_error",
            code="insufficient_permissions",
        )


def policy_for(caller: Caller, served: Sequence[str]) -> str:
    """The policy that decides on a request: the one that it names, or the first that the key may use.

    Args:
        caller: Whose request it is.
        served: Names of all policies, the server's own first.

    Raises:
        ApiError: The key may not use that one, or there is none.
    """
    allowed = caller.policies or served
    name = allowed[0] if caller.policy is None else caller.policy
    if name not in allowed or name not in served:
        # The same words for one that is there: a key need not learn what others may use.
        raise ApiError(
            403,
            f"There is no policy of this name for this key: {POLICY_HEADER}.",
            kind="permission_error",
            code="policy_not_found",
        )
    return name


def least(server: int | None, key: int | None) -> int | None:
    """The tighter of two limits; None for none."""
    limits = [limit for limit in (server, key) if limit is not None]
    return min(limits, default=None)


def seen_headers(sight: Sight) -> tuple[str, ...]:
    """The headers that a response must not have."""
    hidden = {"full": (), "action": ("confidence",), "none": ("action", "confidence")}
    return tuple(f"x-guardrail-{name}" for name in hidden[sight])


def seen_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller sees of a completion, a chunk of one, or a judged answer."""
    sight = CALLER.get().sight
    seen = dict(document)
    if sight == "full":
        return seen
    verdict = seen.pop("guardrail", None)
    if verdict is None and "action" in seen:
        verdict, seen = seen, {name: seen[name] for name in ("answer", "request") if name in seen}
        return seen if sight == "none" else {**seen, **_action_of(verdict)}
    return seen if verdict is None or sight == "none" else {**seen, "guardrail": _action_of(verdict)}


def _action_of(verdict: Mapping[str, Any]) -> dict[str, Any]:
    # As much as it takes to know a turn that was withheld when it comes back.
    told = {name: verdict[name] for name in ("request", "action", "enforced")}
    escalation = verdict["escalation"]
    if escalation is not None:
        source = "escalation" if escalation["source"] else None
        told["escalation"] = {"source": source, "ticket": escalation["ticket"]}
    return told

"""From target to target until one of them takes the case."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from guardrail.errors import EscalationError, OptionError
from guardrail.escalation.calling import call_within, wait_within
from guardrail.escalation.case import Answered, Attempt, Case, Escalation, Outcome, Queued
from guardrail.escalation.targets import Target
from guardrail.policy.targets import ABSTAIN

__all__ = ["Route", "aescalate", "check_routes", "escalate"]


@dataclass(frozen=True, slots=True)
class Route:
    """A target, and what happens where it fails.

    Attributes:
        target: What takes the case.
        on_error: Name of the target that is tried next, or ``abstain``.
        timeout_s: How long it may take, in seconds.
    """

    target: Target
    on_error: str = ABSTAIN
    timeout_s: float = 60.0


def check_routes(routes: Mapping[str, Route]) -> None:
    """Make sure that every route ends.

    Raises:
        OptionError: One leads to a target that is not there, or in a circle.
    """
    for name in routes:
        way = [name]
        while (following := routes[way[-1]].on_error) != ABSTAIN:
            if following not in routes:
                raise OptionError(f"The escalation target {way[-1]!r} falls to {following!r}, which is none.")
            if following in way:
                raise OptionError(f"Escalation goes in a circle: {' → '.join([*way, following])}.")
            way.append(following)


def escalate(routes: Mapping[str, Route], to: str, case: Case) -> Escalation:
    """Hand a case to a target, and where it fails, to the one that it falls to.

    A target fails where it raises, takes too long, or gives no text. Nothing is raised for that: the
    escalation then has no reply, and each attempt says what went wrong.
    """
    attempts: list[Attempt] = []
    for name, route in _way(routes, to):
        began = time.perf_counter()
        try:
            reply = call_within(route.timeout_s, partial(route.target.take, case))
        except Exception as error:  # noqa: BLE001  (recorded, and the next target is tried)
            attempts.append(_failed(name, route, began, error))
            continue
        return Escalation((*attempts, _succeeded(name, route, began, reply)), reply)
    return Escalation(tuple(attempts))


async def aescalate(routes: Mapping[str, Route], to: str, case: Case) -> Escalation:
    """The same within an event loop; see :func:`escalate`."""
    attempts: list[Attempt] = []
    for name, route in _way(routes, to):
        began = time.perf_counter()
        try:
            reply = await wait_within(route.timeout_s, route.target.atake(case))
        except Exception as error:  # noqa: BLE001  (recorded, and the next target is tried)
            attempts.append(_failed(name, route, began, error))
            continue
        return Escalation((*attempts, _succeeded(name, route, began, reply)), reply)
    return Escalation(tuple(attempts))


def _way(routes: Mapping[str, Route], to: str) -> Iterator[tuple[str, Route]]:
    """The targets in the order in which they are tried; none of them twice."""
    tried: set[str] = set()
    while to in routes and to not in tried:
        tried.add(to)
        yield to, routes[to]
        to = routes[to].on_error


def _succeeded(name: str, route: Route, began: float, reply: Answered | Queued) -> Attempt:
    outcome: Outcome = "queued" if isinstance(reply, Queued) else "answered"
    return Attempt(name, route.target.kind, outcome, "", _since(began))


def _failed(name: str, route: Route, began: float, error: Exception) -> Attempt:
    # What others write into their errors may be what was asked: their type has to do.
    if isinstance(error, EscalationError):
        reason = str(error)
    elif isinstance(error, TimeoutError):
        reason = f"no answer within {route.timeout_s:g} s"
    else:
        reason = "the target failed"
    return Attempt(name, route.target.kind, "failed", f"{type(error).__name__}: {reason}", _since(began))


def _since(began: float) -> float:
    return max(0.0, time.perf_counter() - began)

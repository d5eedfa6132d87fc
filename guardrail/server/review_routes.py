"""The review queue over HTTP: what waits for a person, and what the person says."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, get_args

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from guardrail.errors import EscalationError, InvalidInputError, OptionError
from guardrail.escalation.case import Item, ReviewLabel, Status
from guardrail.escalation.queue import HumanQueue
from guardrail.policy.model import Policy
from guardrail.server.access import QUEUE_PATH
from guardrail.server.api_keys import CALLER, Caller
from guardrail.server.http_boundary import note
from guardrail.server.http_errors import ApiError
from guardrail.server.json_bodies import read_body

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ReviewRoutes", "queues_of"]

_TICKET = re.compile(r"[0-9a-f]{32}")
_PAGE, _LARGEST_PAGE = 50, 100
_BODY_WITHIN = 30.0


class ReviewAnswer(BaseModel):
    """The body of an answer to a case; who gives it is said by the key."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    verdict: ReviewLabel
    text: Annotated[str, Field(min_length=1)] | None = None


def queues_of(policies: Iterable[Policy], busy_timeout_s: float = 5.0) -> list[HumanQueue]:
    """The queues that policies escalate to, each once."""
    queues: dict[Path, HumanQueue] = {}
    for policy in policies:
        for target in policy.escalation.values():
            if target.queue is not None:
                queue = HumanQueue(target.queue, busy_timeout_s=busy_timeout_s)
                queues.setdefault(queue.path, queue)
    return [*queues.values()]


class ReviewRoutes:
    """What reviewers ask for, each of the queues of the policies that their key names.

    Args:
        policies: The policies that are served, by name.
    """

    def __init__(self, policies: dict[str, Policy]) -> None:
        self._policies = policies

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        one = f"{QUEUE_PATH}/{{ticket}}"
        for path, endpoint, method in (
            (QUEUE_PATH, self.items, "GET"),
            (one, self.item, "GET"),
            (one, self.answer, "POST"),
        ):
            app.add_api_route(path, endpoint, methods=[method], include_in_schema=False)

    async def items(self, request: Request) -> Response:
        """A page of the cases, in the order in which they came."""
        asked = request.query_params
        for name in asked:
            if name not in ("status", "limit", "after") or len(asked.getlist(name)) > 1:
                raise _refused("Parameters are status, limit and after, each once.", None)
        status = asked.get("status", "waiting")
        if status not in (*get_args(Status), "all"):
            raise _refused("status is waiting, answered or all.", "status")
        limit = asked.get("limit", str(_PAGE))
        if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= _LARGEST_PAGE:
            raise _refused(f"limit is 1 to {_LARGEST_PAGE}.", "limit")
        after = asked.get("after")
        if after is not None and not _TICKET.fullmatch(after):
            raise _refused("after is the last ticket of the page before.", "after")
        found = await asyncio.to_thread(_page, self._queues(_reviewer()), status, int(limit), after)
        documents = [item.as_plain() for item in found]
        has_more = len(documents) > int(limit)
        return JSONResponse({"object": "list", "data": documents[: int(limit)], "has_more": has_more})

    async def item(self, request: Request, ticket: str) -> Response:
        """One case: what was asked, what the model answered, and why it was not shown."""
        item, _ = await asyncio.to_thread(_find, self._queues(_reviewer()), ticket)
        note(request.scope, ticket=item.ticket)
        return JSONResponse(item.as_plain())

    async def answer(self, request: Request, ticket: str) -> Response:
        """Say what becomes of a case. The first answer stands; said again, it is the same."""
        reviewer = _reviewer()
        said = await read_body(request, ReviewAnswer, _BODY_WITHIN)
        item = await asyncio.to_thread(_answered, self._queues(reviewer), ticket, said, reviewer.name or "")
        note(request.scope, ticket=item.ticket, review=said.verdict)
        return JSONResponse(item.as_plain())

    def _queues(self, reviewer: Caller) -> list[HumanQueue]:
        names = self._policies if reviewer.policies is None else reviewer.policies
        return queues_of(self._policies[name] for name in names)


def _reviewer() -> Caller:
    caller = CALLER.get()
    # The boundary saw to it; a route that is reached some other way must not open.
    if caller.role != "reviewer" or not caller.name:
        raise ApiError(403, "This path is for keys of the role reviewer.", kind="permission_error")
    return caller


def _page(queues: Sequence[HumanQueue], status: str, limit: int, after: str | None) -> list[Item]:
    """One more than asked for, where there are more; queue by queue."""
    found: list[Item] = []
    is_past = after is None
    for queue in queues:
        items = queue.items(None)
        if not is_past:
            place = next((at for at, item in enumerate(items) if item.ticket == after), None)
            if place is None:
                continue
            is_past, items = True, items[place + 1 :]
        found += [item for item in items if status in ("all", item.status)]
        if len(found) > limit:
            break
    if not is_past:
        raise _not_there()
    return found[: limit + 1]


def _find(queues: Sequence[HumanQueue], ticket: str) -> tuple[Item, HumanQueue]:
    # Whole tickets alone: of its beginning, a queue would find it as well.
    if _TICKET.fullmatch(ticket):
        for queue in queues:
            try:
                return queue.get(ticket), queue
            except InvalidInputError:
                continue
    raise _not_there()


def _answered(queues: Sequence[HumanQueue], ticket: str, said: ReviewAnswer, by: str) -> Item:
    _, queue = _find(queues, ticket)
    try:
        return queue.answer(ticket, said.verdict, said.text, by=by)
    except OptionError as error:
        raise _refused(str(error), "text" if said.text is not None else "verdict") from None
    except EscalationError:
        standing = queue.get(ticket).answer
        if standing is None:
            raise
        raise ApiError(
            409,
            f"{standing.by} answered before, at {standing.at} ({standing.verdict}). The first answer stands.",
            code="answered_before",
        ) from None


def _refused(words: str, param: str | None) -> ApiError:
    return ApiError(400, words, param=param, code="invalid_value")


def _not_there() -> ApiError:
    return ApiError(404, "There is no such ticket.", param="ticket", code="ticket_not_found")

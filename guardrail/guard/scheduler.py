"""The queue of requests for one model, batched where possible; and what a caller asks, as jobs."""

import re
from asyncio import CancelledError, timeout, wrap_future
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from guardrail.errors import AnswerTimeoutError, OptionError, ResponseError
from guardrail.guard.produce import Job
from guardrail.guard.tool_calls import CalledTool
from guardrail.labelling.provenance import Author, author_of
from guardrail.models.chat_template import with_text
from guardrail.models.documents import without_documents
from guardrail.utils.threads import renew_after_fork

if TYPE_CHECKING:
    from guardrail.guard.assess import AssessedJob
    from guardrail.models.decoding import GenerationControls
    from guardrail.models.prompt import Prompt
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import FinishReason

__all__ = [
    "QueuedRequest",
    "RequestQueue",
    "Response",
    "asking_job",
    "job_of",
    "jobs_of",
    "reading_job",
]


RunJobs = Callable[[Sequence[Job], "Sampling | None", Callable[[], bool]], "list[AssessedJob]"]


class QueuedRequest:
    """Jobs of one caller, and what comes of them.

    Args:
        jobs: The jobs, which are run together.
        sampling: How to decode.
    """

    def __init__(self, jobs: "Sequence[Job]", sampling: "Sampling | None") -> None:
        self.jobs, self.sampling = jobs, sampling
        self.future: Future[list[AssessedJob]] = Future()
        self._abandoned = False

    def abandon(self) -> None:
        """Say that nobody waits for it any more: it is not begun, or given up at the next token."""
        self._abandoned = True
        self.future.cancel()

    def is_awaited(self) -> bool:
        """Whether somebody waits for it."""
        goes_on = self.jobs[0].controls.goes_on if self.jobs else None
        return not self._abandoned and (goes_on is None or goes_on())

    def begins(self) -> bool:
        """Whether it is to be run; from then on it cannot be cancelled, but abandoned."""
        if self._abandoned:
            self.fail(CancelledError())
            return False
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Raise an error where the caller waits, if nothing came of it yet."""
        if not self.future.done():
            self.future.set_exception(error)

    def goes_with(self, other: "QueuedRequest") -> bool:
        """Whether two requests give in one run what each would give alone."""
        if self._reads() and other._reads():
            # Each is encoded with its own tools and arguments, and nothing is drawn.
            return True
        return (
            self._mixes()
            and other._mixes()
            and self.sampling == other.sampling
            and list(self.jobs[0].controls.tools) == list(other.jobs[0].controls.tools)
            and self.jobs[0].controls.chat_template_kwargs == other.jobs[0].controls.chat_template_kwargs
        )

    def _reads(self) -> bool:
        return bool(self.jobs) and all(job.response is not None for job in self.jobs)

    def _mixes(self) -> bool:
        # With a seed, what is drawn for one row hangs on the rows above it.
        seeded = (
            self.sampling is not None and self.sampling.seed is not None and self.sampling.temperature > 0
        )
        plain = all(job.response is None and not job.controls.is_for_one for job in self.jobs)
        return bool(self.jobs) and plain and not seeded


class RequestQueue:
    """Requests in the order in which they came.

    There is no thread that serves them: a caller runs what is next until its own request is done. So Ctrl-C
    stops the model at once, and those who waited go on without whoever left.

    Args:
        run: Runs jobs; asked after every token whether to go on.
        turn: Gives the model to one at a time.
        most: Most jobs that are run together, if no single request has more.
    """

    def __init__(self, run: RunJobs, turn: Callable[[], AbstractContextManager[None]], most: int) -> None:
        self._run, self._turn, self._most = run, turn, most
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._waiting: deque[QueuedRequest] = deque()
        self._lock = Lock()
        # For tasks, which must not wait in the event loop's thread.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="guardrail")

    def renew_after_fork(self) -> None:
        """Begin empty: whoever waits, and the thread that serves tasks, is in the other process."""
        self._begin()

    @property
    def waiting(self) -> int:
        """How many requests wait, those that are run not counted."""
        return len(self._waiting)

    def result(self, request: QueuedRequest, within: float | None = None) -> "list[AssessedJob]":
        """Give what comes of a request, once it is its turn.

        Args:
            request: The request.
            within: Seconds that the caller waits; None for as long as it takes.

        Raises:
            AnswerTimeoutError: The time was up; the request is abandoned.
        """
        self._join(request)
        try:
            if within is None:
                self._serve(request)
            else:
                # A caller blocked on the lock cannot time out, so a worker runs it.
                self._worker.submit(self._served, request)
                wait([request.future], within)
        except BaseException:
            request.abandon()
            raise
        if not request.future.done():
            request.abandon()
            raise _late(within)
        return request.future.result()

    async def aresult(self, request: QueuedRequest, within: float | None = None) -> "list[AssessedJob]":
        """The same beside an event loop."""
        self._join(request)
        self._worker.submit(self._served, request)
        try:
            async with timeout(within) as limit:
                return await wrap_future(request.future)
        except BaseException as error:
            request.abandon()
            if isinstance(error, TimeoutError) and limit.expired():
                raise _late(within) from None
            raise

    def _join(self, request: QueuedRequest) -> None:
        with self._lock:
            self._waiting.append(request)

    def _served(self, request: QueuedRequest) -> None:
        try:
            self._serve(request)
        except BaseException as error:  # noqa: BLE001  (the task would wait for ever)
            request.fail(error)

    def _serve(self, request: QueuedRequest) -> None:
        while not request.future.done():
            with self._turn():
                if not request.future.done():
                    self._run_next()

    def _run_next(self) -> None:
        batch = self._next_batch()
        try:
            self._run_batch(batch)
        except BaseException:
            # It was meant for this thread; the others of the batch go on without it.
            with self._lock:
                self._waiting.extendleft(request for request in reversed(batch) if not request.future.done())
            raise

    def _next_batch(self) -> list[QueuedRequest]:
        batch: list[QueuedRequest] = []
        with self._lock:
            left: deque[QueuedRequest] = deque()
            size = 0
            while self._waiting:
                request = self._waiting.popleft()
                fits = not batch or (size + len(request.jobs) <= self._most and batch[0].goes_with(request))
                if not fits:
                    left.append(request)
                elif request.begins():
                    batch.append(request)
                    size += len(request.jobs)
            self._waiting = left
        return batch

    def _run_batch(self, batch: Sequence[QueuedRequest]) -> None:
        if not batch:
            return
        jobs = [job for request in batch for job in request.jobs]
        try:
            results = self._run(jobs, batch[0].sampling, lambda: any(one.is_awaited() for one in batch))
        except CancelledError as error:
            for request in batch:
                request.fail(error)
            return
        except Exception as error:  # noqa: BLE001  (raised where the caller waits)
            if len(batch) == 1:
                batch[0].fail(error)
                return
            # Of several, the one that cannot be used must not touch the others.
            for request in batch:
                self._run_batch([request])
            return
        # By their order: ids may come from callers, and two that are alike must not swap answers.
        of_each = iter(results)
        for request in batch:
            request.future.set_result([*islice(of_each, len(request.jobs))])


def _late(within: float | None) -> AnswerTimeoutError:
    return AnswerTimeoutError(
        f"There was no answer within {within:g} s. Give it more time, or fewer tokens (max_tokens)."
    )


Response = str | Sequence[int]


_REQUEST_ID = re.compile(r"[0-9a-f]{32}")


def job_of(
    messages: "Prompt",
    tags: Iterable[str],
    answered_by: str | Author | None = None,
    request_id: str | None = None,
) -> Job:
    """A question or a conversation to be answered, or that somebody answered."""
    if request_id is not None and not (isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)):
        raise OptionError("request_id is 32 hexadecimal digits in lower case, such as uuid4().hex gives.")
    if isinstance(tags, str):
        raise OptionError("tags is a list of texts.")
    asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else with_text(messages)
    # A document that is declared wrongly is told here, whatever the profile reads.
    without_documents(asked)
    return Job(
        id=uuid4().hex if request_id is None else request_id,
        messages=asked,
        tags=frozenset(tags),
        answered_by=author_of(answered_by),
    )


def asking_job(
    messages: "Prompt",
    tags: Iterable[str],
    controls: "GenerationControls",
    template_kwargs: Mapping[str, Any],
    calls_in: Callable[[str], Iterable[str | CalledTool]] | None = None,
    request_id: str | None = None,
) -> Job:
    """A question or a conversation to be answered, as its caller wants it generated.

    Args:
        messages: What is asked.
        tags: What the caller says of it.
        controls: How to generate; of its arguments of the chat template, those alone are kept that are
            others than the guard's.
        template_kwargs: The guard's own arguments of the template.
        calls_in: Finds the tools that the draft calls.
        request_id: Id of the request; made here if not given.
    """
    given = controls.chat_template_kwargs
    other = {
        name: value
        for name, value in given.items()
        if name not in template_kwargs or template_kwargs[name] != value
    }
    controls = controls if other == given else replace(controls, chat_template_kwargs=other)
    job = job_of(messages, tags, request_id=request_id)
    return replace(job, controls=controls, calls_in=calls_in)


def reading_job(
    messages: "Prompt",
    response: Response,
    tags: Iterable[str],
    finish_reason: "FinishReason | None" = None,
    tool_calls: Iterable[str | CalledTool] = (),
    answered_by: str | Author | None = None,
    temperature: float | None = None,
    request_id: str | None = None,
) -> Job:
    """A response that was produced elsewhere, to be read."""
    if isinstance(tool_calls, str):
        raise OptionError("tool_calls is a list of names or calls.")
    # Nothing else may be taken for a request to generate one.
    is_list = isinstance(response, Sequence) and not isinstance(response, str | bytes | bytearray)
    if not isinstance(response, str) and not (is_list and all(isinstance(token, int) for token in response)):
        raise ResponseError("A response is a text, or a list of token ids.")
    return replace(
        job_of(messages, tags, answered_by, request_id),
        response=response,
        finish_reason=finish_reason,
        tool_calls=tuple(tool_calls),
        temperature=temperature,
    )


def jobs_of(
    conversations: "Sequence[Prompt]",
    tags: Iterable[str],
    responses: Sequence[Response] | None = None,
    answered_by: str | Author | None = None,
) -> list[Job]:
    """A batch of either kind; without responses they are to be generated."""
    if isinstance(conversations, str):
        raise OptionError("A batch is a list of questions or conversations, and this is one text.")
    if responses is None:
        return [job_of(messages, tags) for messages in conversations]
    if len(responses) != len(conversations):
        raise OptionError(f"There are {len(conversations)} conversations and {len(responses)} responses.")
    return [
        reading_job(messages, response, tags, answered_by=answered_by)
        for messages, response in zip(conversations, responses, strict=True)
    ]

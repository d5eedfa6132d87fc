"""A guard whose answers an inference server generates; the local model reads them, and the policy decides."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from guardrail.errors import AnswerTimeoutError, OptionError, ResponseError, UpstreamError
from guardrail.guard.answer import failure
from guardrail.guard.external_generation import ExternalGeneration
from guardrail.guard.guard import Guard
from guardrail.guard.produce import Job
from guardrail.guard.scheduler import asking_job
from guardrail.guard.tool_calls import CalledTool, name_of
from guardrail.labelling.provenance import Author, author_of, same_name
from guardrail.models.decoding import NO_CONTROLS, CancelledError, GenerationControls, decode
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.models.local import LocalModel
from guardrail.models.response import ResponseReader, token_budget
from guardrail.policy.load import load_policy
from guardrail.policy.model import Policy
from guardrail.upstream.chat_endpoint import ChatEndpoint, ChatPrompt, public_name
from guardrail.upstream.schema_conformance import conforms

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.models.loading import LoadOptions
    from guardrail.models.prompt import EncodedPrompt, Prompt
    from guardrail.models.sampling import Sampling
    from guardrail.upstream.completion_report import CompletionReport
    from guardrail.utils.threads import ProgressCallback

__all__ = ["SAME_WEIGHTS", "UpstreamGuard"]

T = TypeVar("T")
SAME_WEIGHTS = "same"
UNDECLARED = "nobody declares whose weights the server runs"
_POLL_S = 0.05
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class UpstreamGuard(Guard):
    """A guard in front of an inference server: the server generates, the local model reads and scores.

    What fails at the server is an answer that the model did not give: the policy's ``on_error`` decides. An
    answer is the local model's own only where ``weights`` declares it. Where the server reports its
    log-probabilities, they have to agree with the local reading, and its prompt's token ids with the local
    encoding; otherwise the answer is of somebody else, and ``on_outside_domain`` decides.

    Examples:
        >>> upstream = ChatEndpoint("http://127.0.0.1:8001/v1")
        >>> guard = UpstreamGuard.from_policy("builtin:default", upstream=upstream, weights="same")
        >>> answer = guard.ask("What is the capital of France?")

    Args:
        policy: What decides; its ``streaming`` is ``buffer``.
        model: What reads and scores the answers.
        upstream: What generates them.
        weights: Whose weights the server runs: ``same`` as the local model's, or the name of the model whose
            answers the profile is made of. None where nobody declares it: no profile then holds.
        options: Further arguments of :class:`~guardrail.guard.guard.Guard`.

    Raises:
        OptionError: The policy shows drafts before they are decided on, or ``weights`` is no name.
        GuardrailError: As for :class:`~guardrail.guard.guard.Guard`.
    """

    def __init__(
        self,
        policy: Policy,
        model: LocalModel,
        upstream: ChatEndpoint,
        *,
        weights: str | None = None,
        **options: Any,
    ) -> None:
        if policy.streaming != "buffer":
            raise OptionError(
                f"streaming is {policy.streaming} in the policy {policy.name!r}, and what an upstream server "
                "generates can be shown only once it is decided on: streaming: buffer."
            )
        super().__init__(policy, model, **options)
        self.upstream, self._weights = upstream, weights
        declared = None if weights is None else author_of(weights)
        self._is_same = declared is not None and (
            declared.name == SAME_WEIGHTS or same_name(declared.name, model.name)
        )
        self._declared = None if self._is_same else declared

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "upstream": self.upstream, "weights": self._weights}

    @classmethod
    def from_policy(  # type: ignore[override]
        cls,
        policy: str | Path | Policy,
        model: str | LocalModel | None = None,
        *,
        upstream: ChatEndpoint,
        weights: str | None = None,
        load: "LoadOptions | None" = None,
        progress: "ProgressCallback | None" = None,
        **options: Any,
    ) -> Self:
        """Make a guard of a policy's file.

        Args:
            policy: Path, ``builtin:NAME``, or a policy that was loaded.
            model: What reads the answers, or its name; the policy's ``model`` if not given, and otherwise the
                built-in.
            upstream: As for the class.
            weights: As for the class.
            load: How to open the model, if it is given by name.
            progress: Told of downloads.
            options: As for the class.

        Raises:
            PolicyError: The policy has mistakes; it lists all of them.
            GuardrailError: The model cannot be opened, or as for the class.
        """
        policy = policy if isinstance(policy, Policy) else load_policy(policy)
        if not isinstance(model, LocalModel):
            model = LocalModel.load(model or policy.model or DEFAULT_MODEL, load, progress)
        return cls(policy, model, upstream, weights=weights, **options)

    @property
    def author(self) -> Author | None:
        """Who answers at the server, as it is declared; None for the local model's own weights."""
        if self._is_same:
            return None
        return self._declared or Author(self._served_name, UNDECLARED)

    @property
    def _served_name(self) -> str:
        return public_name(self.upstream.model or "a model that the server does not name")

    def ask(
        self,
        messages: "Prompt",
        sampling: "Sampling | None" = None,
        *,
        tags: Iterable[str] = (),
        controls: GenerationControls = NO_CONTROLS,
        calls_in: Callable[[str], Iterable[str | CalledTool]] | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> "GuardedAnswer":
        """As :meth:`Guard.ask`, of an answer of the server.

        Raises:
            InvalidInputError: Nothing was asked, the prompt does not fit the context, or an option cannot be
                followed by a server.
            AnswerTimeoutError: The time was up; the connection to the server is closed.
            CancelledError: ``controls.goes_on`` said no.
        """
        return _run(
            self.aask(
                messages,
                sampling,
                tags=tags,
                controls=controls,
                calls_in=calls_in,
                timeout=timeout,
                request_id=request_id,
            )
        )

    async def aask(
        self,
        messages: "Prompt",
        sampling: "Sampling | None" = None,
        *,
        tags: Iterable[str] = (),
        controls: GenerationControls = NO_CONTROLS,
        calls_in: Callable[[str], Iterable[str | CalledTool]] | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> "GuardedAnswer":
        """As :meth:`ask`, beside the event loop. A task that is cancelled closes the connection at once."""
        _check_controls(controls)
        ours = self.model.chat_template_kwargs
        job = asking_job(messages, tags, controls, ours, calls_in, request_id)
        try:
            async with asyncio.timeout(timeout) as limit:
                return await _while_wanted(self._answered(job, sampling or self.sampling), controls.goes_on)
        except TimeoutError:
            if not limit.expired():
                raise
            raise AnswerTimeoutError(f"There was no answer within {timeout:g} s.") from None

    def ask_batch(
        self,
        conversations: "Sequence[Prompt]",
        sampling: "Sampling | None" = None,
        *,
        tags: Iterable[str] = (),
    ) -> "list[GuardedAnswer]":
        """Answer several questions or conversations, all asked at once; see :meth:`ask`."""
        return _run(self.aask_batch(conversations, sampling, tags=tags))

    async def aask_batch(
        self,
        conversations: "Sequence[Prompt]",
        sampling: "Sampling | None" = None,
        *,
        tags: Iterable[str] = (),
    ) -> "list[GuardedAnswer]":
        """As :meth:`ask_batch`, beside the event loop; see :meth:`aask`."""
        if isinstance(conversations, str):
            raise OptionError("A batch is a list of questions or conversations, and this is one text.")
        given = tuple(tags)
        tasks = [asyncio.ensure_future(self.aask(one, sampling, tags=given)) for one in conversations]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _answered(self, job: Job, sampling: "Sampling") -> "GuardedAnswer":
        encoded, sampling = await asyncio.to_thread(self._encoded, job, sampling)
        try:
            if sampling.stop and not (await self.upstream.capabilities()).token_ids:
                raise OptionError(
                    "stop cannot be followed: the upstream server reports no token ids, so that it is not "
                    "known how an answer ended. Leave it out."
                )
            read = await self._generated(job, encoded, sampling)
        except UpstreamError as error:
            refused = replace(job, answered_by=self.author)
            return await self._pipeline.arefuse(refused, None, failure("answer", error))
        try:
            return (await self._pipeline.arun([read]))[0]
        except ResponseError:
            problem = failure("answer", UpstreamError("the local model cannot read what the server wrote"))
            return await self._pipeline.arefuse(replace(job, answered_by=self.author), None, problem)

    def _encoded(self, job: Job, sampling: "Sampling") -> "tuple[EncodedPrompt, Sampling]":
        """The prompt as the local model reads it, and how much of an answer fits behind it."""
        controls = job.controls
        spoken = self.spoken(job.messages).messages
        encoded = self.model.encode_prompt(spoken, controls.tools, controls.chat_template_kwargs)
        most, _ = token_budget(self.model.tokenizer, [encoded], sampling)
        return encoded, replace(sampling, max_tokens=min(self.model.limits.room(encoded), most))

    async def _generated(self, job: Job, encoded: "EncodedPrompt", sampling: "Sampling") -> Job:
        """The request with what the server answered.

        Raises:
            UpstreamError: It gave nothing that can be read.
        """
        controls = job.controls
        prompt = ChatPrompt(
            self.spoken(job.messages).messages,
            sampling,
            controls.tools,
            controls.must_call,
            controls.json_schema,
            {**self.model.chat_template_kwargs, **controls.chat_template_kwargs},
        )
        began = time.perf_counter()
        report = await self.upstream.complete(prompt)
        seconds = time.perf_counter() - began
        by_ids = report.token_ids is not None
        response, doubt = await asyncio.to_thread(self._read, report)
        if controls.json_schema is not None and report.finish_reason == "stop" and not report.calls:
            shown = self._shown(report, opened=encoded.opens_reasoning)
            await asyncio.to_thread(_check_form, shown, controls.json_schema)
        generation = ExternalGeneration(
            model=self._served_name,
            sampling=sampling,
            is_same_model=self._is_same,
            read_by="token_ids" if by_ids else "text",
            prompt_ids=report.prompt_ids,
            log_probabilities=report.log_probabilities,
            is_constrained=controls.must_call or controls.json_schema is not None,
            doubt=doubt,
            seconds=seconds,
        )
        return replace(
            job,
            response=response,
            finish_reason=report.finish_reason,
            answered_by=self.author,
            calls_in=_checked_calls(job.calls_in, [name for name, _ in report.calls]),
            generation=generation,
        )

    def _read(self, report: "CompletionReport") -> tuple[str | Sequence[int], str]:
        """What is read of an answer, and why that may not be what the model wrote, or nothing.

        Raises:
            UpstreamError: What the server reports does not fit together.
        """
        doubt = (
            ""
            if _is_named(report.model, self.upstream.model)
            else "the server says that another model answered"
        )
        if report.token_ids is not None:
            self._check_text(report, report.token_ids)
            return report.token_ids, doubt
        if report.reasoning:
            raise UpstreamError(
                "the server took the reasoning out of the answer and reports no token ids; start it without "
                "a parser of reasoning"
            )
        if report.calls:
            return (
                report.as_written(),
                "the server reports the calls of the answer, and not how it wrote them",
            )
        return report.content, doubt

    def _check_text(self, report: "CompletionReport", ids: Sequence[int]) -> None:
        """See that the server's text is what its token ids spell; what is shown is read from these."""
        if any(token >= self.model.vocabulary_size for token in ids):
            raise UpstreamError("the server reports token ids that the local model does not have")
        said = [decode(self.model.tokenizer, ids, skip_special_tokens=skip) for skip in (True, False)]
        content = report.content.strip()
        if content and _INCOMPLETE not in content and not any(content in text for text in said):
            raise UpstreamError("the server's text is not what its token ids spell")

    def _shown(self, report: "CompletionReport", *, opened: bool) -> str:
        """The answer as it would be shown: what token ids spell may be more than the text beside them."""
        if report.token_ids is None:
            return report.content
        return ResponseReader(self.model.tokenizer, opened=opened).read(report.token_ids).answer


def _check_form(text: str, schema: Mapping[str, Any]) -> None:
    if not conforms(text, schema):
        raise UpstreamError("the server did not hold the answer to the JSON schema that it was given")


def _is_named(reported: str | None, asked: str | None) -> bool:
    # Some say which revision it was.
    return reported is None or asked is None or reported.partition("@")[0] == asked.partition("@")[0]


def _check_controls(controls: GenerationControls) -> None:
    if controls.on_text is not None:
        raise OptionError("on_text cannot be followed: the draft grows at the upstream server.")
    if controls.processor is not None and controls.json_schema is None and not controls.must_call:
        raise OptionError("processor cannot be followed: the upstream server takes a JSON schema or tools.")


def _checked_calls(
    calls_in: Callable[[str], Iterable[str | CalledTool]] | None, reported: Sequence[str]
) -> Callable[[str], Iterable[str | CalledTool]] | None:
    """What finds the calls in a draft, and fails where the server found others: none goes by unread."""
    if not reported:
        return calls_in

    def checked(draft: str) -> Iterable[str | CalledTool]:
        found = list(calls_in(draft)) if calls_in is not None else []
        if sorted(map(name_of, found)) != sorted(reported):
            raise UpstreamError(
                "the calls that the server reports are not those that its answer is read to make"
            )
        return found

    return checked


async def _while_wanted(work: Coroutine[Any, Any, T], goes_on: Callable[[], bool] | None) -> T:
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            if goes_on is not None and not goes_on():
                raise CancelledError
            await asyncio.wait({task}, timeout=None if goes_on is None else _POLL_S)
        return task.result()
    finally:
        task.cancel()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """What comes of some work, in a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    # The caller's thread has a loop that runs, as in a notebook, and waits for this one.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="guardrail-upstream") as threads:
        return threads.submit(copy_context().run, asyncio.run, work).result()

"""The guard: answers of a local model, each decided on by a policy before anybody sees it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from guardrail.errors import OptionError
from guardrail.escalation.routing import check_keyless
from guardrail.guard.pipeline import Pipeline
from guardrail.guard.scheduler import Response, asking_job, job_of, jobs_of, reading_job
from guardrail.guard.tool_calls import CalledTool
from guardrail.labelling.provenance import Author
from guardrail.models.decoding import NO_CONTROLS, GenerationControls
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from guardrail.policy.load import load_policy
from guardrail.policy.model import Policy
from guardrail.utils.text import takes_no_others

if TYPE_CHECKING:
    from guardrail.calibration.familiarity import Streams
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.guard.history import History
    from guardrail.models.loading import LoadOptions
    from guardrail.models.prompt import Prompt
    from guardrail.models.trace import FinishReason
    from guardrail.scoring.options import ScoringOptions
    from guardrail.utils.threads import ProgressCallback

__all__ = ["Guard"]


@takes_no_others
class Guard:
    """A local model with a policy in front of it.

    Nothing fails open. Where an answer cannot be scored, assessed or decided on, the policy's ``on_error``
    decides; where it cannot be escalated or recorded, it is withheld; ``error`` says what went wrong. Raised
    is only what the caller has to mend (an empty question, a prompt too long), and what stops the program.

    A guard may be used by many threads and tasks at once. The model runs one request, or one batch, at a
    time; requests that wait meanwhile are run together, as far as ``batch_size`` allows. A process that is
    forked off may use it as well, with one thread of its processor; one that was forked off while an answer
    was being made is refused it.

    Examples:
        >>> guard = Guard.from_policy("builtin:default")
        >>> answer = guard.ask("What is the capital of France?")
        >>> answer.text, answer.action, answer.confidence

    Args:
        policy: What decides.
        model: What answers.
        targets: Chat models, functions or queues for names of the policy's ``escalation``, in place of what
            it says there. A function takes a :class:`~guardrail.escalation.case.Case` and gives a text.
        batch_size: How many waiting requests are run together at most. More than 1 is faster under load;
            then the numbers of an answer may differ in their last digits by what it was run with.
        sentences: Also score each sentence of an answer that has several, told as ``answer.sentences``; six
            of them take as long as 2.8 scores of the whole. Nothing is decided by them.
        chat_template_kwargs: Arguments of the model's chat template, over those of the policy and of the
            model, such as ``{"enable_thinking": False}``.
        familiarity: What an earlier guard of the same profile knew of the traffic
            (:attr:`familiarity`), to go on from there; or the :attr:`streams` of another guard, to learn
            together.

    Raises:
        ProfileError: The policy's profile cannot be read, or ``familiarity`` is invalid or of another one;
            ForeignProfileError where the profile is of another model.
        OptionError: A target is none, or the decision log cannot be written.
        EscalationError: A target cannot be opened; MissingDependencyError where a package is missing for it.
    """

    def __init__(
        self,
        policy: Policy,
        model: LocalModel,
        *,
        targets: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        sentences: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        familiarity: "Mapping[str, Any] | Streams | None" = None,
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}; it is at least 1.")
        self.policy = policy
        given = {**(policy.chat_template_kwargs or {}), **(chat_template_kwargs or {})}
        self.model = model = model.with_chat_template_kwargs(given)
        self._options: dict[str, Any] = {
            "targets": targets,
            "batch_size": batch_size,
            "sentences": sentences,
            "chat_template_kwargs": chat_template_kwargs,
        }
        self._pipeline = Pipeline(policy, model, targets, batch_size, sentences, familiarity)

    def __getstate__(self) -> dict[str, Any]:
        check_keyless(self._options["targets"])
        return {
            "policy": self.policy,
            "model": self.model,
            **self._options,
            "familiarity": self.familiarity,
        }

    def __setstate__(self, made_by: Mapping[str, Any]) -> None:
        # A guard is nothing but its arguments, opened; what it knows of the traffic is one of them.
        self.__init__(**made_by)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Nobody changes a guard, and the weights are shared, as is what it learns of the traffic.
        return self

    @property
    def profile_digest(self) -> str | None:
        """SHA-256 of the profile that answers are assessed by; None where there is none."""
        return self._pipeline.profile_digest

    @property
    def streams(self) -> "Streams | None":
        """The streams of traffic, which learn with every answer; None as for :attr:`familiarity`."""
        return self._pipeline.streams

    @property
    def familiarity(self) -> dict[str, Any] | None:
        """What is known of the traffic so far, stream by stream, as plain values for JSON.

        An app that keeps it and gives it to the next guard (``familiarity=``) goes on over a restart;
        otherwise the traffic is untried again, and nothing is certified before some dozens of answers. None
        where the profile keeps no states to compare with, or there is no profile.
        """
        return self._pipeline.familiarity

    @classmethod
    @takes_no_others
    def from_policy(
        cls,
        policy: str | Path | Policy,
        model: str | LocalModel | None = None,
        *,
        targets: Mapping[str, Any] | None = None,
        load: "LoadOptions | None" = None,
        progress: "ProgressCallback | None" = None,
        batch_size: int = 1,
        sentences: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        familiarity: "Mapping[str, Any] | Streams | None" = None,
    ) -> Self:
        """Make a guard of a policy's file.

        Args:
            policy: Path, ``builtin:NAME``, or a policy that was loaded.
            model: What answers, or its name; the policy's ``model`` if not given, and otherwise the built-in.
            targets: As for the class.
            load: How to open the model, if it is given by name.
            progress: Told of downloads.
            batch_size: As for the class.
            sentences: As for the class.
            chat_template_kwargs: As for the class.
            familiarity: As for the class.

        Raises:
            PolicyError: The policy has mistakes; it lists all of them.
            GuardrailError: The model cannot be opened, or as for the class.
        """
        policy = policy if isinstance(policy, Policy) else load_policy(policy)
        if not isinstance(model, LocalModel):
            model = LocalModel.load(model or policy.model or DEFAULT_MODEL, load, progress)
        return cls(
            policy,
            model,
            targets=targets,
            batch_size=batch_size,
            sentences=sentences,
            chat_template_kwargs=chat_template_kwargs,
            familiarity=familiarity,
        )

    @property
    def sampling(self) -> "Sampling":
        """How answers are drawn where the caller does not say."""
        return self._pipeline.sampling or Sampling()

    @property
    def scoring(self) -> "ScoringOptions":
        """How answers are scored: as the profile says, if there is one."""
        return self._pipeline.scoring

    def spoken(self, messages: "Prompt") -> "History":
        """A conversation as the model is asked, with whatever method: without turns that were withheld.

        An answer that was withheld is the policy's message, and no turn of the model's: it and the question
        before it are no part of the prompt, and the warning beside a flagged answer is not either. An
        answer is known for withheld by the verdict that its message carries (``answer.as_plain()``, as
        ``uncertainty`` or in its ``response_metadata``), or by its words, which are a message of the policy.
        What an escalation's target answered stays: it was said, if not by the model. A policy that only
        observes leaves nothing out.

        Args:
            messages: A question, or messages with ``role`` and ``content``.
        """
        return self._pipeline.spoken(job_of(messages, ()).messages)

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
        """Answer a question or a conversation.

        Args:
            messages: A question, or messages with ``role`` and ``content``. Turns that were withheld are no
                part of the prompt (:meth:`spoken`): an answer's message may carry its verdict,
                ``answer.as_plain()``, as ``uncertainty``.
            sampling: How to decode; as the profile's answers were if not given, and greedily without one.
            tags: What the policy's rules may go by, such as the part of an app that asks.
            controls: Tools that the model is shown, who listens to the draft while it grows (before it is
                decided on), who may give it up; arguments of the chat template for this answer alone, for
                which no profile holds.
            calls_in: Finds the tools that the draft calls, in its text with special tokens, for the policy's
                rules. Where it fails, the answer is withheld.
            timeout: Seconds until the model's answer must have been decided on, waiting included; for what
                an escalation may take, its targets have times of their own.
            request_id: Id of the request in verdict, log and ticket, 32 hexadecimal digits that no other
                request has (``uuid4().hex``); made here if not given.

        Raises:
            InvalidInputError: Nothing was asked, or the prompt does not fit the context.
            AnswerTimeoutError: The time was up. The model is given up at the next token, unless others were
                run with it.
            CancelledError: ``controls.goes_on`` said no.
            OptionError: ``request_id`` is of another form.
        """
        ours = self.model.chat_template_kwargs
        job = asking_job(messages, tags, controls, ours, calls_in, request_id)
        return self._pipeline.run([job], sampling, timeout)[0]

    def ask_batch(
        self,
        conversations: "Sequence[Prompt]",
        sampling: "Sampling | None" = None,
        *,
        tags: Iterable[str] = (),
    ) -> "list[GuardedAnswer]":
        """Answer several questions or conversations in one run; see :meth:`ask`."""
        return self._pipeline.run(jobs_of(conversations, tags), sampling)

    def judge(
        self,
        messages: "Prompt",
        response: Response,
        *,
        finish_reason: "FinishReason | None" = None,
        tags: Iterable[str] = (),
        tool_calls: Iterable[str | CalledTool] = (),
        answered_by: str | Author | None = None,
        temperature: float | None = None,
        request_id: str | None = None,
    ) -> "GuardedAnswer":
        """Decide on a response that was produced elsewhere: by the same weights, unless another is named.

        It is taken to be generated as the profile's answers were, unless ``temperature`` says otherwise. What
        another model answered has scores, and a confidence, quantiles and guarantees only where the profile
        is made of that model's answers. Otherwise the policy's ``on_outside_domain`` decides where a rule
        hangs on these.

        Args:
            messages: What was asked.
            response: What was answered, as text or token ids.
            finish_reason: Why it ended, if that is known: a text that was cut off (``length``) is scored
                without the token that ends a turn.
            tags: As for :meth:`ask`.
            tool_calls: The tools that it calls: by name, or with how it writes the call, which is then
                scored, and has a confidence, by itself.
            answered_by: The name of the model that answered, where it is not the guard's own: as the profile
                names it (``guardrail calibrate --answered-by``), if it is that one.
            temperature: At which it was drawn, where that is known.
            request_id: As for :meth:`ask`.

        Raises:
            InvalidInputError: As for :meth:`ask`, or the response cannot be read by this model.
        """
        job = reading_job(
            messages, response, tags, finish_reason, tool_calls, answered_by, temperature, request_id
        )
        return self._pipeline.run([job])[0]

    def judge_batch(
        self,
        conversations: "Sequence[Prompt]",
        responses: Sequence[Response],
        *,
        tags: Iterable[str] = (),
        answered_by: str | Author | None = None,
    ) -> "list[GuardedAnswer]":
        """Decide on several responses in one run; see :meth:`judge`."""
        return self._pipeline.run(jobs_of(conversations, tags, responses, answered_by))

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
        """As :meth:`ask`, beside the event loop.

        A task that is cancelled is free at once. If its request waited, it is not run; if it ran, it is given
        up at the next token, unless others were run with it.
        """
        ours = self.model.chat_template_kwargs
        job = asking_job(messages, tags, controls, ours, calls_in, request_id)
        return (await self._pipeline.arun([job], sampling, timeout))[0]

    async def aask_batch(
        self,
        conversations: "Sequence[Prompt]",
        sampling: "Sampling | None" = None,
        *,
        tags: Iterable[str] = (),
    ) -> "list[GuardedAnswer]":
        """As :meth:`ask_batch`, beside the event loop; see :meth:`aask`."""
        return await self._pipeline.arun(jobs_of(conversations, tags), sampling)

    async def ajudge(
        self,
        messages: "Prompt",
        response: Response,
        *,
        finish_reason: "FinishReason | None" = None,
        tags: Iterable[str] = (),
        tool_calls: Iterable[str | CalledTool] = (),
        answered_by: str | Author | None = None,
        temperature: float | None = None,
        request_id: str | None = None,
    ) -> "GuardedAnswer":
        """As :meth:`judge`, beside the event loop; see :meth:`aask`."""
        job = reading_job(
            messages, response, tags, finish_reason, tool_calls, answered_by, temperature, request_id
        )
        return (await self._pipeline.arun([job]))[0]

    async def ajudge_batch(
        self,
        conversations: "Sequence[Prompt]",
        responses: Sequence[Response],
        *,
        tags: Iterable[str] = (),
        answered_by: str | Author | None = None,
    ) -> "list[GuardedAnswer]":
        """As :meth:`judge_batch`, beside the event loop; see :meth:`aask`."""
        return await self._pipeline.arun(jobs_of(conversations, tags, responses, answered_by))

    def refuse(
        self,
        messages: "Prompt",
        draft: str | None,
        error: str,
        *,
        tags: Iterable[str] = (),
        answered_by: str | Author | None = None,
        request_id: str | None = None,
    ) -> "GuardedAnswer":
        """Decide, by the policy's ``on_error``, on an answer that cannot be read or scored at all.

        Args:
            messages: What was asked, as far as that is known.
            draft: What was answered, as far as that is known.
            error: Why it cannot be checked: the type of an error and a sentence, without a word of the draft.
            tags: As for :meth:`ask`.
            answered_by: As for :meth:`judge`.
            request_id: As for :meth:`ask`.
        """
        return self._pipeline.refuse(job_of(messages, tags, answered_by, request_id), draft, error)

    async def arefuse(
        self,
        messages: "Prompt",
        draft: str | None,
        error: str,
        *,
        tags: Iterable[str] = (),
        answered_by: str | Author | None = None,
        request_id: str | None = None,
    ) -> "GuardedAnswer":
        """As :meth:`refuse`, beside the event loop."""
        return await self._pipeline.arefuse(job_of(messages, tags, answered_by, request_id), draft, error)

"""The guard's stages in order: produce, assess, escalate, record; and what is shown of a decided answer."""

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from guardrail.calibration.familiarity import Streams
from guardrail.calibration.guarantees import NO_STATES
from guardrail.errors import OptionError, ProfileError
from guardrail.escalation.case import Answered, Case, Escalation
from guardrail.escalation.routing import aescalate, escalate, open_routes
from guardrail.guard.answer import DEFAULT_MESSAGES, UNCHECKED, GuardedAnswer, failure
from guardrail.guard.assess import ON_ERROR, AssessedJob, assess, resolve_profile, sampling_of
from guardrail.guard.decision_log import DecisionLog, decision_record
from guardrail.guard.external_generation import generation_told
from guardrail.guard.history import History, notices_of, spoken
from guardrail.guard.produce import Job, Produced, Wanted, produce
from guardrail.guard.recording import asked_of, facts_for_telemetry, telemetry_of, timed
from guardrail.guard.scheduler import QueuedRequest, RequestQueue
from guardrail.guard.sentence_release import Released, SentenceRelease, check_prose, released_sentences
from guardrail.policy.messages import TICKET, render_message
from guardrail.policy.model import SENTENCES
from guardrail.scoring.options import ScoringOptions

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile
    from guardrail.models.local import LocalModel
    from guardrail.models.sampling import Sampling
    from guardrail.policy.model import Policy
    from guardrail.telemetry.answer_spans import AnswerRecording

__all__ = ["Pipeline"]

LOGGER = logging.getLogger(__name__)


class Pipeline:
    """What a guard runs. Arguments and errors are those of :class:`~guardrail.guard.guard.Guard`."""

    def __init__(
        self,
        policy: "Policy",
        model: "LocalModel",
        targets: Mapping[str, Any] | None,
        batch_size: int,
        sentences: bool,
        familiarity: Mapping[str, Any] | Streams | None = None,
    ) -> None:
        self._policy = policy
        self._digest = policy.digest
        self._notices = notices_of(policy)
        self._model = model
        self._resolved = resolve_profile(policy, model)
        profile = self._resolved.profile
        scoring = profile.scorer.options() if profile else ScoringOptions()
        reads_documents = profile is not None and profile.reads_documents
        self._wanted = Wanted(scoring, profile.depths if profile else (), sentences, reads_documents)
        self._sampling = sampling_of(profile)
        self._streams = _streams(profile, policy.streams, familiarity)
        self._routes = open_routes(policy.escalation, targets)
        self._log = DecisionLog(policy.log.file, policy.log.text) if policy.log else None
        self._by_sentences = policy.streaming == SENTENCES
        if self._by_sentences and model.anatomy.rope_switch is not None:
            raise OptionError(
                f"{model.name} reads a text otherwise once it is longer: no sentence has its score before "
                "the answer ends. Choose another model, or streaming: buffer."
            )
        # Each answer is shown as it grows, so each has a run of its own.
        most = 1 if self._by_sentences else batch_size
        self._waiting = RequestQueue(self._assess_batch, model.alone, most)
        self._telemetry = telemetry_of(policy, model.name, self._waiting)

    @property
    def profile_digest(self) -> str | None:
        """SHA-256 of the profile in use."""
        return self._resolved.digest

    @property
    def streams(self) -> Streams | None:
        """The streams of traffic; None where no profile keeps states."""
        return self._streams

    @property
    def familiarity(self) -> dict[str, Any] | None:
        """What is known of the streams of traffic, as plain values; None where no profile keeps states."""
        return None if self._streams is None else self._streams.as_plain()

    @property
    def sampling(self) -> "Sampling | None":
        """How answers are drawn where the caller does not say; None where no profile says it."""
        return self._sampling

    @property
    def scoring(self) -> ScoringOptions:
        """How answers are scored."""
        return self._wanted.options

    def run(
        self, jobs: Sequence[Job], sampling: "Sampling | None" = None, timeout: float | None = None
    ) -> list[GuardedAnswer]:
        """Answer, or read, and guard a batch."""
        self._check(jobs)
        request = QueuedRequest([*map(self._as_spoken, jobs)], sampling or self._sampling)
        with self._telemetry.recorded(asked_of(request.jobs), request.sampling) as recording:
            assessed = self._waiting.result(request, timeout)
            return [self._act_on(one, recording) for one in assessed]

    async def arun(
        self, jobs: Sequence[Job], sampling: "Sampling | None" = None, timeout: float | None = None
    ) -> list[GuardedAnswer]:
        """As :meth:`run`, within an event loop."""
        self._check(jobs)
        request = QueuedRequest([*map(self._as_spoken, jobs)], sampling or self._sampling)
        with self._telemetry.recorded(asked_of(request.jobs), request.sampling) as recording:
            assessed = await self._waiting.aresult(request, timeout)
            return list(await asyncio.gather(*(self._aact_on(one, recording) for one in assessed)))

    def refuse(self, job: Job, draft: str | None, error: str) -> GuardedAnswer:
        """Guard an answer that the model cannot read."""
        with self._telemetry.recorded(asked_of([job], is_read=True)) as recording:
            return self._act_on(self._refused(job, draft, error), recording)

    async def arefuse(self, job: Job, draft: str | None, error: str) -> GuardedAnswer:
        """As :meth:`refuse`, within an event loop."""
        with self._telemetry.recorded(asked_of([job], is_read=True)) as recording:
            return await self._aact_on(self._refused(job, draft, error), recording)

    def spoken(self, messages: Sequence[Any]) -> History:
        """A conversation as the model is asked; a policy that only observes changes nothing in it."""
        notices = None if self._policy.mode == "observe" else self._notices
        return spoken(messages, notices, below=self._by_sentences)

    def _as_spoken(self, job: Job) -> Job:
        history = self.spoken(job.messages)
        return replace(job, messages=history.messages, turns_left_out=history.turns_left_out)

    def _check(self, jobs: Sequence[Job]) -> None:
        if self._by_sentences:
            check_prose(jobs)

    def _assess_batch(
        self, jobs: Sequence[Job], sampling: "Sampling | None", goes_on: Callable[[], bool]
    ) -> list[AssessedJob]:
        if self._by_sentences:
            return [self._released(job, sampling, goes_on) for job in jobs]
        began = time.time_ns()
        produced = produce(self._model, jobs, sampling, self._wanted, goes_on)
        self._telemetry.ran(len(jobs))
        assessed = []
        for job, one in zip(jobs, produced, strict=True):
            deciding = time.time_ns()
            decided = assess(self._policy, self._resolved, job, one, sampling, self._notices, self._streams)
            assessed.append(timed(decided, began, deciding, len(jobs)))
        return assessed

    def _released(self, job: Job, sampling: "Sampling | None", goes_on: Callable[[], bool]) -> AssessedJob:
        """Show one answer sentence by sentence."""
        release = SentenceRelease(
            self._model,
            self._policy,
            self._resolved,
            self._wanted.options,
            job,
            sampling,
            self._notices,
            self._log.check if self._log is not None else lambda: None,
        )
        began = time.time_ns()
        try:
            assessed = released_sentences(self._model, job, sampling, release, goes_on)
        except BaseException as error:
            if release.was_heard:
                # Nobody waits for the verdict any more, but part of the answer was shown.
                release.fail(f"{type(error).__name__}: the answer was given up")
                self._recorded(release.assessed(Produced(draft=release.text)), None)
            raise
        self._telemetry.ran(1)
        return timed(assessed, began, time.time_ns(), 1)

    def _refused(self, job: Job, draft: str | None, error: str) -> AssessedJob:
        produced = Produced(draft=draft, error=error)
        spoken_job = self._as_spoken(job)
        return assess(
            self._policy, self._resolved, spoken_job, produced, notices=self._notices, streams=self._streams
        )

    def _act_on(self, assessed: AssessedJob, recording: "AnswerRecording") -> GuardedAnswer:
        """Escalate where the policy says so, and record what comes of it."""
        escalation = None
        if is_escalated(assessed):
            with recording.stage(assessed.job.id, "escalate"):
                escalation = escalate(self._routes, assessed.decision.to or "", self._case(assessed))
        with recording.stage(assessed.job.id, "record"):
            answer = self._recorded(assessed, escalation)
        return self._told(answer, assessed, recording)

    async def _aact_on(self, assessed: AssessedJob, recording: "AnswerRecording") -> GuardedAnswer:
        escalation = None
        if is_escalated(assessed):
            with recording.stage(assessed.job.id, "escalate"):
                escalation = await aescalate(self._routes, assessed.decision.to or "", self._case(assessed))
        with recording.stage(assessed.job.id, "record"):
            answer = await asyncio.to_thread(self._recorded, assessed, escalation)
        return self._told(answer, assessed, recording)

    def _told(
        self, answer: GuardedAnswer, assessed: AssessedJob, recording: "AnswerRecording"
    ) -> GuardedAnswer:
        """The answer, once telemetry and the log of the program know of it."""
        recording.answered(facts_for_telemetry(answer, assessed))
        if answer.error:
            LOGGER.warning("answer %s failed: %s", answer.request, answer.error.partition(":")[0])
        else:
            LOGGER.debug("answer %s: %s by rule %s", answer.request, answer.action, answer.rule)
        return answer

    def _recorded(self, assessed: AssessedJob, escalation: Escalation | None) -> GuardedAnswer:
        """The answer, once its decision is in the log; a decision that cannot be recorded is not shown."""
        answer = self._guarded(assessed, escalation and self._checked(escalation))
        if self._log is None:
            return answer
        try:
            self._log.write(
                decision_record(
                    answer, self._policy.name, assessed.job.tags, assessed.job.messages, self._log.texts
                )
            )
        except Exception as error:  # noqa: BLE001  (recorded in the answer, which is withheld)
            problem = failure("record", error)
            if answer.enforced:
                return withheld(answer, problem)
            # A policy that only observes changes nothing, whatever happens.
            warnings.warn(problem, RuntimeWarning, stacklevel=2)
        return answer

    def _checked(self, escalation: Escalation) -> Escalation:
        """What came of an escalation; another model that says what the policy says has not answered."""
        reply, attempts = escalation.reply, escalation.attempts
        is_repeated = isinstance(reply, Answered) and bool(self._notices.repeated_in(reply.text))
        if not is_repeated or attempts[-1].kind != "chat_model":
            return escalation
        error = "EscalationError: its answer is a message of the policy"
        return Escalation((*attempts[:-1], replace(attempts[-1], outcome="failed", error=error)))

    def _guarded(self, assessed: AssessedJob, escalation: Escalation | None) -> GuardedAnswer:
        """The answer as it is shown; an escalation that nobody took is an abstention."""
        answer = self._answer(assessed, escalation)
        if not is_escalated(assessed) or (escalation is not None and escalation.reply is not None):
            return answer
        return replace(
            withheld(answer, "EscalationError: no target took the question"),
            text=DEFAULT_MESSAGES["abstain"],
            message=DEFAULT_MESSAGES["abstain"],
            rule=assessed.decision.rule,
            reason=f"{assessed.decision.reason}; no target took it",
        )

    def _answer(self, assessed: AssessedJob, escalation: Escalation | None) -> GuardedAnswer:
        job, produced, decision = assessed.job, assessed.produced, assessed.decision
        assessment = assessed.assessment
        timings = {**produced.timings, "judge_s": assessed.seconds}
        if job.generation is not None:
            timings["upstream_s"] = job.generation.seconds
        if escalation is not None:
            timings["escalate_s"] = sum(attempt.seconds for attempt in escalation.attempts)
        text, message = shown(assessed, escalation)
        return GuardedAnswer(
            text=text,
            action=decision.action,
            rule=decision.rule,
            reason=decision.reason,
            message=message,
            confidence=assessment.confidence if assessment else None,
            confidence_interval=assessment.interval if assessment else None,
            confidence_score=assessment.confidence_score if assessment else None,
            uncertainty=produced.uncertainty,
            guarantees=assessed.guarantees,
            quantiles=assessment.quantiles if assessment else {},
            tool_calls=assessed.calls,
            sentences=produced.sentences,
            reasoning=produced.reasoning,
            reasoning_tokens=produced.reasoning_tokens,
            finish_reason=produced.finish_reason,
            usage=produced.usage,
            draft=produced.draft,
            escalation=escalation,
            enforced=decision.enforced,
            error=assessed.error,
            request=job.id,
            model=self._model.name,
            answered_by=job.answered_by.name if job.answered_by else self._model.name,
            generated_by=generation_told(job, produced),
            outside_domain=assessed.outside_domain,
            domain=tuple(one.fact for one in assessed.differences),
            uncertified=assessed.uncertified,
            familiar=assessed.familiarity.familiar if assessed.familiarity else None,
            is_uncalibrated=self._resolved.profile is None,
            policy_digest=self._digest,
            profile_digest=self._resolved.digest,
            # A clock that went back says nothing of how long something took.
            timings={stage: max(0.0, seconds) for stage, seconds in timings.items()},
            turns_left_out=job.turns_left_out,
            repeats=assessed.repeats,
            released=assessed.released,
        )

    def _case(self, assessed: AssessedJob) -> Case:
        """What is handed over to a target."""
        verdict = self._answer(assessed, None).as_plain()
        job, uncertainty = assessed.job, assessed.produced.uncertainty
        return Case(
            id=verdict["request"],
            messages=[dict(message) for message in job.messages],
            draft=assessed.produced.draft or "",
            rule=verdict["rule"],
            reason=verdict["reason"],
            confidence=verdict["confidence"],
            scores=dict(uncertainty.scores()) if uncertainty else {},
            finish_reason=verdict["finish_reason"],
            tags=sorted(job.tags),
            model=verdict["model"],
            answered_by=verdict["answered_by"],
            policy_digest=verdict["policy"],
            profile_digest=verdict["profile"],
            verdict=verdict,
        )


def _streams(
    profile: "Profile | None", patterns: Sequence[str], known: Mapping[str, Any] | Streams | None
) -> Streams | None:
    """The streams of traffic; None where there is nothing to compare it with.

    Raises:
        ProfileError: What is known of them is invalid, or of another profile.
    """
    if profile is None or profile.states is None:
        if known is not None and not isinstance(known, Streams):
            why = "there is no profile" if profile is None else NO_STATES
            raise ProfileError(f"Nothing can be known of the traffic: {why}.")
        return None
    if isinstance(known, Streams):
        # Those of another profile say nothing of this one: the traffic is untried.
        return known if known.is_of(profile, patterns) else Streams(profile, patterns)
    return Streams(profile, patterns) if known is None else Streams.from_plain(profile, patterns, known)


def is_escalated(assessed: AssessedJob) -> bool:
    """Whether somebody else is to be asked; not where the policy only observes."""
    return assessed.decision.enforced and assessed.decision.action == "escalate"


def shown(assessed: AssessedJob, escalation: Escalation | None) -> tuple[str, str | None]:
    """The text, and the policy's words where it has any to say."""
    decision, draft = assessed.decision, assessed.produced.draft
    if not decision.enforced:
        return draft or UNCHECKED, None
    if decision.action == "pass":
        return draft or "", None
    if escalation is not None and isinstance(escalation.reply, Answered):
        return escalation.reply.text, None
    default = DEFAULT_MESSAGES[decision.action]
    if decision.action == "abstain" and decision.rule == ON_ERROR:
        default = UNCHECKED
    message = decision.message or default
    if decision.awaiting_ticket is not None and escalation is not None:
        message = render_message(decision.awaiting_ticket, {TICKET: escalation.ticket})
    if decision.action == "flag":
        return draft or "", message
    return below(assessed.released, message), message


def below(released: Released | None, message: str) -> str:
    """The policy's words, below what was shown already."""
    return f"{released.text}\n\n{message}" if released is not None and released.text else message


def withheld(answer: GuardedAnswer, error: str) -> GuardedAnswer:
    """The same answer, withheld because something failed after it was decided."""
    errors = "; ".join(filter(None, (answer.error, error)))
    return replace(
        answer,
        text=below(answer.released, UNCHECKED),
        action="abstain",
        rule=ON_ERROR,
        reason=error,
        message=UNCHECKED,
        enforced=True,
        error=errors,
    )

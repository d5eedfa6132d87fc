"""Turn a scored draft into a policy decision, by the profile that applies. Pure, and fails closed."""

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, get_args

from guardrail.calibration.domain import Difference, Unit
from guardrail.calibration.familiarity import FamiliarityStatus, Streams
from guardrail.calibration.guarantees import GENERAL, NO_STATES, kinds_in
from guardrail.calibration.held_out import builtin_profiles
from guardrail.calibration.profile import Assessment, Guarantee, Profile, read_profile
from guardrail.errors import CalibrationError, ForeignProfileError, GuardrailError, ProfileError
from guardrail.escalation.case import is_blank
from guardrail.guard.answer import failure
from guardrail.guard.external_generation import attributed
from guardrail.guard.history import notices_of
from guardrail.guard.produce import Job, Produced
from guardrail.guard.tool_calls import AssessedCall, assess_calls, name_of
from guardrail.labelling.answer_facts import facts_of
from guardrail.labelling.provenance import same_name
from guardrail.models.documents import without_documents
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.sampling import Sampling
from guardrail.policy.conditions import NO_PROFILE_OF_SENTENCES
from guardrail.policy.decide import decide
from guardrail.policy.evidence import Action, Decision, Evidence
from guardrail.policy.lint import AUTO
from guardrail.policy.messages import Notices
from guardrail.policy.model import SENTENCES
from guardrail.scoring.options import fingerprint_scorer

if TYPE_CHECKING:
    from guardrail.guard.sentence_release import Released
    from guardrail.models.local import LocalModel
    from guardrail.policy.model import Policy
    from guardrail.telemetry.answer_record import StageTime

__all__ = ["ON_ERROR", "AssessedJob", "ResolvedProfile", "assess", "resolve_profile", "sampling_of"]


# What decides where no rule can.
ON_ERROR = "on_error"


@dataclass(frozen=True, slots=True)
class ResolvedProfile:
    """The profile that answers are assessed by.

    Attributes:
        profile: The profile; None where there is none for the model.
        digest: SHA-256 of it.
        model: What the model is called that scores the answers.
        missing: Why there is no profile, in words for a person.
        is_general: Whether the profile is for other people's traffic, such as one that ships: nothing is
            certified by it.
    """

    profile: Profile | None
    digest: str | None
    model: str
    missing: str = ""
    is_general: bool = False

    def outside_domain(self, job: Job) -> str:
        """Why no profile can hold for the answer to a request, whatever it is; empty where one may."""
        if self.profile is not None:
            return self.profile.outside_domain(job.answered_by, self.model)
        if job.answered_by is None or (
            not job.answered_by.doubt and same_name(job.answered_by.name, self.model)
        ):
            return ""
        return f"the answer is of {job.answered_by.name}, and there is no profile of its answers"


@dataclass(frozen=True, slots=True)
class AssessedJob:
    """A request with all that was found out and decided.

    Attributes:
        job: The request.
        produced: What the model's part came to.
        assessment: What the profile says, if there is one and it could.
        guarantees: Those that the answer is let through by; None where that cannot be told.
        calls: What is known of each call of a tool.
        outside_domain: Why the profile does not hold for the answer, in words; empty where it does.
        decision: What is to be done.
        error: Why the answer could not be scored, assessed or decided, or empty.
        seconds: How long assessing and deciding took.
        repeats: The message of the policy that the answer repeats; or empty.
        differences: How the answer differs from those of the profile.
        uncertified: Why no guarantee of the profile holds for the answer, whatever its confidence; empty
            where they do.
        familiarity: What is known of the traffic so far, this answer included; None where the profile keeps
            no states.
        stages: When the stages of the model and of the decision ran.
        batch_size: How many requests were run together; None where the model did not run.
        released: What was shown sentence by sentence; None where the answer was decided on as a whole.
    """

    job: Job
    produced: Produced
    assessment: Assessment | None
    guarantees: tuple[Guarantee, ...] | None
    calls: tuple[AssessedCall, ...]
    outside_domain: str
    decision: Decision = field(repr=False)
    error: str
    seconds: float
    repeats: str = ""
    differences: tuple[Difference, ...] = ()
    uncertified: str = ""
    familiarity: FamiliarityStatus | None = None
    stages: "tuple[StageTime, ...]" = ()
    batch_size: int | None = None
    released: "Released | None" = None


def assess(
    policy: "Policy",
    resolved: ResolvedProfile,
    job: Job,
    produced: Produced,
    sampling: Sampling | None = None,
    notices: Notices | None = None,
    streams: Streams | None = None,
) -> AssessedJob:
    """Decide on one answer. Nothing is raised: what cannot be assessed or decided is withheld.

    Args:
        policy: What decides.
        resolved: The profile.
        job: The request.
        produced: What the model's part came to.
        sampling: How the answer was generated, if it was; greedily if not given.
        notices: What the policy says; those that it says itself, if not given.
        streams: Learns of the answer whether the traffic is like the profile's; None where the profile keeps
            no states.
    """
    began = time.perf_counter()
    job = attributed(job, produced)
    error, uncertified, repeats = produced.error, "", ""
    differences: tuple[Difference, ...] = ()
    familiarity: FamiliarityStatus | None = None
    assessment, guarantees, outside = None, None, "it is not known who gave the answer"
    try:
        outside = resolved.outside_domain(job)
        repeats = (notices or notices_of(policy)).repeated_in(produced.draft or "")
        if resolved.profile is not None and not outside:
            differences = _differences(resolved.profile, job, produced, sampling)
            outside = "; ".join(one.words for one in differences)
        if not error and resolved.profile is not None and not outside:
            assessment = _sound_assessment(resolved.profile, produced, kinds_in(job.tags))
            if streams is not None and produced.observation and not repeats:
                streams.observe(job.tags, produced.observation.hidden)
        familiarity = None if streams is None else streams.status(job.tags)
        if assessment is not None and resolved.profile is not None and resolved.profile.is_calibrated:
            uncertified = _uncertified(resolved, familiarity)
            guarantees = () if uncertified else assessment.guarantees
    except Exception as problem:  # noqa: BLE001  (recorded; the answer is withheld)
        error, assessment = failure("assess", problem), None
    if repeats:
        # How sure a model is of what it has just read says nothing.
        assessment, guarantees = None, None
    calls = assess_calls(produced.scored_calls, resolved.profile, assessment, outside)
    try:
        evidence = _evidence(job, produced, assessment, guarantees, calls, error)
        is_uncalibrated = resolved.profile is None
        evidence = replace(
            evidence,
            outside_domain=outside,
            is_uncalibrated=is_uncalibrated,
            repeats=repeats,
            uncertified=uncertified,
            familiar=None if familiarity is None else familiarity.familiar,
        )
        decision = decide(policy, evidence)
        _check(decision, policy, job, produced, error or repeats)
    except Exception as problem:  # noqa: BLE001  (recorded; the answer is withheld)
        error = error or failure("decide", problem)
        decision = Decision("abstain", ON_ERROR, error, enforced=policy.mode == "enforce")
    if decision.rule == ON_ERROR:
        error = error or f"ScoringError: {decision.reason}"
    if decision.rule == "on_uncalibrated" and resolved.missing:
        decision = replace(decision, reason=f"{decision.reason} ({resolved.missing})")
    return AssessedJob(
        job=job,
        produced=produced,
        assessment=assessment,
        guarantees=guarantees,
        calls=calls,
        outside_domain=outside,
        decision=decision,
        error=error,
        seconds=time.perf_counter() - began,
        repeats=repeats,
        differences=differences,
        uncertified=uncertified,
        familiarity=familiarity,
    )


def _differences(
    profile: Profile, job: Job, produced: Produced, sampling: Sampling | None
) -> tuple[Difference, ...]:
    """How an answer differs from those of a profile."""
    if given := job.controls.chat_template_kwargs:
        # By name only: a value may be a text of the app's, and this stands in logs that have none.
        words = f"the chat template was given {', '.join(sorted(given))} for this answer alone"
        return (Difference("chat_template_kwargs", words),)
    usage = produced.usage
    facts = facts_of(
        job.messages,
        produced.draft or "",
        prompt_tokens=usage.prompt_tokens if usage else None,
        answer_tokens=usage.completion_tokens - produced.reasoning_tokens if usage else None,
        cut_off=produced.finish_reason == "length",
        reasoning=bool(produced.reasoning_tokens),
        tools=bool(job.controls.tools),
        calls=bool(job.tool_calls or produced.tool_calls),
        constrained=job.controls.processor is not None
        or (job.generation is not None and job.generation.is_constrained),
    )
    return (
        *_without_document(profile, job),
        *profile.domain.differences(facts),
        *_drawn_otherwise(profile, job, sampling),
    )


def _without_document(profile: Profile, job: Job) -> list[Difference]:
    """Where a profile reads how much a document moved an answer, and the prompt declares none."""
    if not profile.reads_documents or without_documents(job.messages) is not None:
        return []
    said = "the profile reads how much a document moved the answer, and this prompt declares none"
    return [Difference("document", said)]


def _sound_assessment(profile: Profile, produced: Produced, kinds: Set[str]) -> Assessment:
    if produced.observation is None:
        raise CalibrationError("there are no scores")
    assessment = profile.assess(produced.observation, kinds)
    shares = [*assessment.quantiles.values()]
    if profile.is_calibrated or assessment.confidence is not None:
        shares.append(_number(assessment.confidence))
        if not isfinite(_number(assessment.confidence_score)):
            raise CalibrationError("the confidence score is not a number")
    if assessment.interval is not None:
        low, high = assessment.interval
        shares += [low, high]
        if not low <= high:
            raise CalibrationError("the interval of the confidence ends before it begins")
    if not all(0 <= share <= 1 for share in shares):
        raise CalibrationError("a probability or quantile is not between 0 and 1")
    return assessment


def _number(value: float | None) -> float:
    if not isinstance(value, float):
        raise CalibrationError("the confidence is not a number")
    return value


def _uncertified(resolved: ResolvedProfile, familiarity: FamiliarityStatus | None) -> str:
    """Why no guarantee holds for an answer, whatever its confidence; empty where they do."""
    if resolved.is_general:
        return GENERAL
    if familiarity is None:
        return NO_STATES
    return "" if familiarity.familiar == "familiar" else familiarity.words


def _drawn_otherwise(profile: Profile, job: Job, sampling: Sampling | None) -> list[Difference]:
    """How an answer was drawn otherwise than those of a profile; of one from elsewhere as far as is known."""
    made, used = profile.making.generation, sampling or Sampling()
    if job.generation is not None:
        used = job.generation.sampling
    if job.response is not None and job.generation is None:
        known = {} if job.temperature is None else {"temperature": job.temperature}
    else:
        names = ("temperature", "top_p") if used.temperature else ("temperature",)
        known = {name: getattr(used, name) for name in names}
    return [
        Difference(name, f"the profile is of answers at {name} {made[name]}, and this is one at {value}")
        for name, value in known.items()
        if made.get(name, value) != value
    ]


def _evidence(
    job: Job,
    produced: Produced,
    assessment: Assessment | None,
    guarantees: tuple[Guarantee, ...] | None,
    calls: Sequence[AssessedCall],
    error: str,
) -> Evidence:
    names = (*map(name_of, job.tool_calls), *produced.tool_calls)
    known = Evidence(finish_reason=produced.finish_reason, tags=job.tags, tool_calls=names)
    if error or produced.observation is None:
        return replace(known, error=error or "ScoringError: there are no scores")
    known = replace(known, scores=produced.observation.scores)
    if assessment is None:
        return known
    return replace(
        known,
        confidence=assessment.confidence,
        call_confidences=tuple((call.name, call.confidence) for call in calls),
        quantiles=assessment.quantiles,
        guarantees=None if guarantees is None else frozenset(guarantees),
    )


def _check(decision: Decision, policy: "Policy", job: Job, produced: Produced, error: str) -> None:
    """Make sure that a decision is one, and lets nothing through that it must not."""
    if not isinstance(decision, Decision) or decision.action not in get_args(Action):
        raise GuardrailError("it gave no decision")
    if decision.enforced != (policy.mode == "enforce"):
        raise GuardrailError("its decision is of another mode")
    if decision.action not in ("pass", "flag"):
        return
    if error and decision.enforced:
        raise GuardrailError("it let through what could not be judged")
    if not job.tool_calls and is_blank(produced.draft or ""):
        raise GuardrailError("it let through an answer that shows nothing")


_SAMPLED = ("max_tokens", "temperature", "top_p", "max_reasoning_tokens")


def resolve_profile(policy: "Policy", model: "LocalModel") -> ResolvedProfile:
    """The profile that a policy names, made sure to be of this model; or why there is none.

    A profile that a policy names must fit. The one that ships for a model of this name may be of other
    weights or another dtype: there is then no profile, and the policy's ``on_uncalibrated`` decides.

    Raises:
        ProfileError: It cannot be read; ForeignProfileError where it is of another model or scorer, or not of
            what the policy decides on: whole answers, or sentences.
    """
    unit: Unit = "sentence" if policy.streaming == SENTENCES else "answer"
    if policy.profile == AUTO and unit == "sentence":
        raise ProfileError(f"The policy {policy.name!r} {NO_PROFILE_OF_SENTENCES}.")
    if policy.profile != AUTO:
        if policy.profile_path is None:
            raise ProfileError(
                f"It is not known where the profile {policy.profile} lies: load the policy with load_policy."
            )
        profile = read_profile(policy.profile_path)
        _check_profile(profile, model, unit)
        is_general = profile.is_general or policy.profile_path in builtin_profiles().values()
        return ResolvedProfile(profile, profile.digest, model.name, is_general=is_general)
    path = builtin_profiles().get(model.name)
    if path is None:
        missing = f"no profile ships for {model.name}: guardrail calibrate makes one"
        return ResolvedProfile(None, None, model.name, missing)
    shipped = read_profile(path)
    try:
        _check_profile(shipped, model)
    except ForeignProfileError as error:
        missing = f"the profile that ships for {model.name} does not hold: {error}"
        return ResolvedProfile(None, None, model.name, missing)
    return ResolvedProfile(shipped, shipped.digest, model.name, is_general=True)


def sampling_of(profile: Profile | None) -> Sampling | None:
    """How answers are drawn where the caller does not say: as those that the profile was made of."""
    made: Mapping[str, Any] = profile.making.generation if profile else {}
    known = {name: made[name] for name in _SAMPLED if name in made}
    return Sampling(**known, stop=tuple(made.get("stop") or ())) if known else None


def _check_profile(profile: Profile, model: "LocalModel", unit: Unit = "answer") -> None:
    profile.check(fingerprint_model(model), fingerprint_scorer(profile.scorer.options()), unit)

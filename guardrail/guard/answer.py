"""The guarded answer: the text that may be shown, what was decided and why, and its confidence in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from guardrail.errors import (
    CalibrationError,
    EscalationError,
    GenerationError,
    GuardrailError,
    ScoringError,
    UpstreamError,
)
from guardrail.escalation.verdict import (
    AnswerDocument,
    Verdict,
    VerdictGeneration,
    VerdictGuarantee,
    VerdictReleased,
    VerdictScores,
    VerdictSentence,
    VerdictSentenceDecision,
    VerdictUsage,
)
from guardrail.policy.conditions import Familiar
from guardrail.policy.evidence import Action, Evidence
from guardrail.utils.json_lines import plain_json

if TYPE_CHECKING:
    from guardrail.calibration.profile import Guarantee
    from guardrail.escalation.case import Escalation
    from guardrail.guard.sentence_release import Released
    from guardrail.guard.sentence_scores import ScoredSentence
    from guardrail.guard.tool_calls import AssessedCall
    from guardrail.models.trace import Usage
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = [
    "BANDS",
    "DEFAULT_MESSAGES",
    "UNCHECKED",
    "GuardedAnswer",
    "Stage",
    "confidence_in_words",
    "confidence_percent",
    "failure",
]


# Where the policy has no words of its own.
DEFAULT_MESSAGES: Mapping[Action, str] = {
    "flag": "Please check this answer: the model was not sure of it.",
    "abstain": "I am not sure enough to answer that.",
    "escalate": "I am not sure enough to answer that. A person will look at it.",
}

# Where an answer could not be scored or decided on, likewise.
UNCHECKED = "This answer could not be checked, so it is not shown."

# From this many percent on, rounded.
BANDS = (
    (95, "very likely right"),
    (75, "likely right"),
    (55, "more likely right than wrong"),
    (45, "as likely right as wrong"),
    (25, "more likely wrong than right"),
    (5, "likely wrong"),
    (0, "very likely wrong"),
)


def confidence_in_words(confidence: float) -> str:
    """The words for a probability of being correct, 0 to 1; those of the number that is shown beside them."""
    percent = round(confidence * 100)
    return next(words for least, words in BANDS if percent >= least)


def confidence_percent(confidence: float) -> str:
    """The probability as a percentage; nothing is shown as certain."""
    percent = min(99, max(1, round(confidence * 100)))
    bound = "> " if confidence > 0.995 else "< " if confidence < 0.005 else ""
    return f"{bound}{percent} %"


Stage = Literal["answer", "score", "call", "assess", "decide", "record"]

_SENTENCES: dict[Stage, str] = {
    "answer": "the model gave no answer",
    "score": "the answer could not be scored",
    "call": "the tools that the answer calls could not be read",
    "assess": "the answer could not be judged by the profile",
    "decide": "the policy could not decide",
    "record": "the decision could not be recorded",
}
# These are raised here, and nothing that was said is in them; what others write into theirs is not known.
_OURS = (CalibrationError, EscalationError, GenerationError, GuardrailError, ScoringError, UpstreamError)


def failure(stage: Stage, error: Exception) -> str:
    """Describe what went wrong at a stage."""
    sentence = _SENTENCES[stage]
    if type(error) in _OURS:
        sentence = f"{sentence} ({' '.join(str(error).split())})"
    elif stage == "record" and isinstance(error, OSError) and error.strerror:
        sentence = f"{sentence} ({error.strerror})"
    return f"{type(error).__name__}: {sentence}"


@dataclass(frozen=True, slots=True)
class GuardedAnswer:
    """One answer, guarded.

    Attributes:
        text: What may be shown: the draft (pass, flag), the policy's message (abstain, or while a person
            decides), or the answer of an escalation's target. Where the policy only observes, the draft.
        action: What was done: ``pass``, ``flag``, ``abstain`` or ``escalate``. An escalation that all
            targets failed is an abstention.
        rule: Id of the rule that decided; ``on_error``, ``on_uncalibrated`` or ``on_outside_domain`` where
            one of these did, and ``own_message`` where the answer repeats a message of the policy.
        reason: Why, in words for a person.
        message: The policy's words: beside a flagged answer, or in place of one that is withheld.
        confidence: Probability that the draft is correct, 0 to 1; None where no profile gives one. It says
            nothing of a target's answer.
        confidence_interval: How far it may be off, as two probabilities; None where the profile does not
            tell, see :class:`~guardrail.calibration.profile.Assessment`.
        confidence_score: The number behind it, which a profile's monitor watches; None likewise.
        uncertainty: The draft's scores; None where it could not be scored.
        guarantees: Those that the draft is let through by; None where no profile can tell.
        quantiles: Share of the profile's reference below each score, 0 to 1.
        finish_reason: Why the draft ended: ``stop``, ``length``, ``reasoning_length`` (in its reasoning, so
            that there is no answer), or None where that is not known.
        usage: Tokens read and written for the draft; None where there is none.
        draft: What the model answered, withheld or not; None where it gave nothing.
        escalation: What came of it, where the answer was escalated.
        enforced: False where the policy only observes.
        error: Why the answer could not be scored, assessed, decided, escalated or recorded: the type of the
            error and a sentence without anything that was said; or empty.
        request: Id of the request; the decision log and a queue's ticket have the same.
        model: Name of the local model, which scored the draft.
        policy_digest: SHA-256 of the policy.
        profile_digest: SHA-256 of the profile; None where none was used.
        timings: Seconds by stage, of the batch that the answer was in.
        turns_left_out: How many earlier turns were no part of the prompt, since their answers were withheld.
        repeats: The message of the policy that the draft repeats, as it stands in the policy; or empty.
        tool_calls: What is known of each call of a tool in the draft.
        reasoning: What the model thought before it answered, withheld or not; empty where it did not.
        reasoning_tokens: How many tokens that took; they are among those of ``usage``.
        sentences: Scores of each sentence of the draft, where the guard was told to score them and there are
            several. Nothing is decided by them.
        released: What was shown sentence by sentence, with the decision on each; None where the answer was
            decided on as a whole. Confidence and scores are then known of a single sentence alone.
        answered_by: Name of the model that gave the draft: the local one, or another.
        generated_by: The inference server that generated the draft, and how its weights are known; None where
            the local model did.
        outside_domain: Why the profile does not hold for the draft, in words; empty where it does.
            Confidence, guarantees and quantiles are then unknown.
        is_uncalibrated: Whether there is no profile.
        domain: Names of the facts in which the draft differs from the profile's answers, such as ``turns``.
        uncertified: Why no guarantee of the profile holds for the draft, whatever its confidence; empty where
            they do.
        familiar: Whether the questions of the deployment so far are like the profile's: ``untried``,
            ``familiar`` or ``unlike``; None where no profile can tell.
    """

    text: str = field(repr=False)
    action: "Action"
    rule: str
    reason: str
    message: str | None
    confidence: float | None
    uncertainty: "Uncertainty | None" = field(repr=False)
    guarantees: "tuple[Guarantee, ...] | None"
    quantiles: Mapping[str, float] = field(repr=False)
    finish_reason: str | None
    usage: "Usage | None"
    draft: str | None = field(repr=False)
    escalation: "Escalation | None"
    enforced: bool
    error: str
    request: str
    model: str
    policy_digest: str
    profile_digest: str | None
    timings: Mapping[str, float] = field(repr=False)
    tool_calls: "tuple[AssessedCall, ...]" = ()
    sentences: "tuple[ScoredSentence, ...]" = field(default=(), repr=False)
    answered_by: str = ""
    outside_domain: str = ""
    is_uncalibrated: bool = False
    domain: tuple[str, ...] = ()
    uncertified: str = ""
    familiar: Familiar | None = None
    confidence_interval: tuple[float, float] | None = None
    confidence_score: float | None = None
    turns_left_out: int = 0
    repeats: str = ""
    reasoning: str = field(default="", repr=False)
    reasoning_tokens: int = 0
    generated_by: VerdictGeneration | None = None
    released: "Released | None" = None

    @property
    def is_withheld(self) -> bool:
        """Whether the draft, or the rest of it behind what was released, is not shown."""
        return self.enforced and self.action in ("abstain", "escalate")

    @property
    def evidence(self) -> Evidence:
        """What the policy decided on, for another to be tried on; the request's tags are not kept."""
        if self.uncertainty is None or self.usage is None or self.rule == "on_error":
            return Evidence(finish_reason=self.finish_reason, error=self.error or "it could not be scored")
        return Evidence(
            confidence=self.confidence,
            scores={**self.uncertainty.scores(), "tokens": float(len(self.uncertainty.tokens))},
            quantiles=self.quantiles,
            guarantees=None if self.guarantees is None else frozenset(self.guarantees),
            repeats=self.repeats,
            finish_reason=self.finish_reason,
            tool_calls=tuple(call.name for call in self.tool_calls),
            call_confidences=tuple((call.name, call.confidence) for call in self.tool_calls),
            outside_domain=self.outside_domain,
            is_uncalibrated=self.is_uncalibrated,
            uncertified=self.uncertified,
            familiar=self.familiar,
        )

    def as_plain(self, *, draft: bool = False) -> Verdict:
        """The verdict: plain values for JSON, without the text, and without a word of the draft.

        Args:
            draft: With the draft, withheld or not, and what was thought before it.
        """
        verdict = Verdict(
            action=self.action,
            rule=self.rule,
            reason=self.reason,
            message=self.message,
            confidence=self.confidence,
            confidence_interval=None if self.confidence_interval is None else [*self.confidence_interval],
            confidence_score=self.confidence_score,
            scores=_scores(self.uncertainty) if self.uncertainty else None,
            guarantees=_guarantees(self.guarantees),
            quantiles=dict(self.quantiles),
            # The calls of a withheld draft are a part of it.
            tool_calls=[] if self.is_withheld else [call.as_plain() for call in self.tool_calls],
            sentences=_decided(self.released)
            or [
                VerdictSentence(start=start, end=end, **_scores(scores))
                for start, end, scores in self.sentences
            ],
            finish_reason=self.finish_reason,
            usage=self._usage(),
            escalation=self.escalation.as_plain() if self.escalation is not None else None,
            enforced=self.enforced,
            error=self.error,
            request=self.request,
            model=self.model,
            answered_by=self.answered_by,
            generated_by=self.generated_by,
            outside_domain=self.outside_domain,
            domain=list(self.domain),
            uncertified=self.uncertified,
            familiar=self.familiar,
            policy=self.policy_digest,
            profile=self.profile_digest,
            turns_left_out=self.turns_left_out,
            released=_released(self.released),
            timings=dict(self.timings),
        )
        if draft:
            verdict["draft"] = self.draft
        if draft and self.reasoning:
            verdict["reasoning"] = self.reasoning
        plain: Verdict = plain_json(verdict)
        return plain

    def as_document(self, *, draft: bool = False) -> AnswerDocument:
        """The verdict and the text that may be shown; with the reasoning, where the draft is shown.

        Args:
            draft: With the draft, withheld or not, and what was thought before it.
        """
        verdict = self.as_plain(draft=draft or not self.is_withheld)
        if not draft:
            verdict.pop("draft", None)
        document: AnswerDocument = {"answer": self.text, **verdict}
        return document

    def _usage(self) -> VerdictUsage | None:
        if self.usage is None:
            return None
        usage = VerdictUsage(
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            total_tokens=self.usage.total_tokens,
        )
        if self.reasoning_tokens:
            usage["reasoning_tokens"] = self.reasoning_tokens
        return usage


def _scores(uncertainty: "Uncertainty") -> VerdictScores:
    return cast("VerdictScores", dict(uncertainty.scores()))


def _decided(released: "Released | None") -> list[VerdictSentence]:
    return [
        VerdictSentenceDecision(
            start=one.span.start,
            end=one.span.end,
            action=one.assessed.decision.action,
            rule=one.assessed.decision.rule,
            confidence=one.assessed.assessment.confidence if one.assessed.assessment else None,
            **_scores(one.uncertainty),
        )
        for one in (released.decisions if released else ())
        if one.uncertainty is not None
    ]


def _released(released: "Released | None") -> VerdictReleased | None:
    if released is None:
        return None
    return VerdictReleased(sentences=released.sentences, characters=len(released.text))


def _guarantees(guarantees: "tuple[Guarantee, ...] | None") -> list[VerdictGuarantee] | None:
    if guarantees is None:
        return None
    return [VerdictGuarantee(max_error=one.max_error, confidence=one.confidence) for one in guarantees]

"""The verdict: all that is known and was decided of one answer, as plain values for JSON.

One form for every reader, each made from ``GuardedAnswer.as_plain()``:

* LangChain's metadata (``response_metadata["uncertainty"]``): the verdict, with a seal;
* ``guardrail ask --json``: the verdict beside the text that is shown (:class:`AnswerDocument`);
* a queue's case: the verdict as it stood when the case was handed over, so without the escalation's outcome;
* the decision log (:class:`~guardrail.guard.decision_log.DecisionRecord`): the same keys and values but two,
  the request's tags and time, and of what was said only what the policy's ``log.text`` allows.
"""

from collections.abc import Mapping
from typing import Literal, NotRequired

# Not the one of ``typing``: before Python 3.12 pydantic, and so LangGraph's state, takes this alone.
from typing_extensions import TypedDict

from guardrail.policy.evidence import Action

__all__ = [
    "AnswerDocument",
    "AttemptOutcome",
    "ReadBy",
    "ServedWeights",
    "TargetKind",
    "Verdict",
    "VerdictAttempt",
    "VerdictCall",
    "VerdictEscalation",
    "VerdictFacts",
    "VerdictGeneration",
    "VerdictGuarantee",
    "VerdictReleased",
    "VerdictScores",
    "VerdictSentence",
    "VerdictSentenceDecision",
    "VerdictUsage",
    "withholds",
]

TargetKind = Literal["chat_model", "callable", "queue"]
AttemptOutcome = Literal["answered", "queued", "failed"]
ReadBy = Literal["token_ids", "text"]
ServedWeights = Literal["verified", "declared", "foreign"]


class VerdictScores(TypedDict):
    """Scores of an answer or a part of it. Uncertainty goes up where the model is less sure.

    Attributes:
        hybridgrad: SemGrad and ParaGrad, balanced by the mean entropy; at least 0.
        semgrad: How far the meaning of the question sways the answer: mean absolute gradient by the hidden
            states of the semantic token; at least 0.
        paragrad: The same by the weights of the head; at least 0.
        exgrad: ParaGrad with every token counted alike, where it was asked for; at least 0.
        mean_entropy: Mean entropy of the tokens' distributions, in nats.
        max_entropy: The largest of them, in nats.
        sum_entropy: Their sum, in nats.
        log_likelihood: Natural logarithm of the answer's probability; at most 0, and lower is less sure.
        perplexity: Exponential of the mean negative log-probability of a token; at least 1.
        min_token_probability: Probability of the unlikeliest token, 0 to 1; lower is less sure.
        document_gain: How much the document in the prompt moved the answer, in nats a token; only where a
            profile reads it.
    """

    hybridgrad: float
    semgrad: float
    paragrad: float
    exgrad: NotRequired[float]
    mean_entropy: float
    max_entropy: float
    sum_entropy: float
    log_likelihood: float
    perplexity: float
    min_token_probability: float
    document_gain: NotRequired[float]


class VerdictSentence(VerdictScores):
    """A sentence of an answer, with its scores: of the mean over its tokens, so that any lengths compare.

    Attributes:
        start: Its first token, counted from 0 within the answer.
        end: The token after its last.
    """

    start: int
    end: int


class VerdictSentenceDecision(VerdictSentence):
    """A sentence that was decided on by itself (``streaming: sentences``); its scores are as the profile's.

    Attributes:
        action: What was decided on it.
        rule: Id of the rule that decided.
        confidence: Probability that it is correct, 0 to 1; null where no profile gives one.
    """

    action: Action
    rule: str
    confidence: float | None


class VerdictReleased(TypedDict):
    """What was shown of an answer sentence by sentence, whatever became of the rest.

    Attributes:
        sentences: How many sentences.
        characters: How many characters: the text that is shown begins with them, and what was withheld is
            none of them.
    """

    sentences: int
    characters: int


class VerdictGuarantee(TypedDict):
    """Of the answers let through by it, at most so many are wrong.

    Attributes:
        max_error: Largest share of wrong answers, 0 to 1.
        confidence: How sure that is, 0 to 1.
    """

    max_error: float
    confidence: float


class VerdictCall(TypedDict):
    """A call of a tool in an answer.

    Attributes:
        name: The tool's name.
        confidence: Probability that the call is correct, 0 to 1; null where the profile gives none.
        hybridgrad: HybridGrad of the call's own tokens, at least 0; null where it could not be had.
        reason: Why there is no confidence; empty where there is one.
    """

    name: str
    confidence: float | None
    hybridgrad: float | None
    reason: str


class VerdictUsage(TypedDict):
    """Tokens that the draft took, shown or not.

    Attributes:
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written, the reasoning included.
        reasoning_tokens: Those of them that were reasoning; only where there are any.
        total_tokens: Read and written together.
    """

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: NotRequired[int]
    total_tokens: int


class VerdictGeneration(TypedDict):
    """How an answer was had that an inference server generated.

    Attributes:
        model: Name that the server's model is served by.
        read_by: How the local model read the answer: by the ``token_ids`` that the server reported, or by its
            ``text``.
        weights: Whether the server's weights are those of the local model: ``verified`` (declared, and its
            log-probabilities agree), ``declared`` (it reports none), ``foreign`` (undeclared, or refuted).
        log_probability_difference: Mean absolute difference of a token's log-probability between the server
            and the local reading, in nats; null where there was nothing to compare.
    """

    model: str
    read_by: ReadBy
    weights: ServedWeights
    log_probability_difference: float | None


class VerdictAttempt(TypedDict):
    """One target that was tried.

    Attributes:
        target: Its name in the policy.
        kind: ``chat_model``, ``callable`` or ``queue``.
        outcome: ``answered``, ``queued`` or ``failed``.
        error: Why it failed: the type of the error and a sentence without a word of what was said; or empty.
        seconds: How long it took.
    """

    target: str
    kind: TargetKind
    outcome: AttemptOutcome
    error: str
    seconds: float


class VerdictEscalation(TypedDict):
    """What came of an escalation.

    Attributes:
        target: Name of the target that took the case; null where all failed.
        source: What gave the answer that is shown, where that was not the local model: the name of a model or
            a function, or ``human review``; null otherwise.
        ticket: What to ask a queue for a person's answer by; null where no queue took the case.
        attempts: Every target that was tried, in order.
    """

    target: str | None
    source: str | None
    ticket: str | None
    attempts: list[VerdictAttempt]


class VerdictFacts(TypedDict):
    """What a verdict says in the same words wherever it is written.

    Attributes:
        action: What was done: ``pass``, ``flag``, ``abstain`` or ``escalate``; what would have been, where
            ``enforced`` is false.
        rule: Id of the rule that decided; or ``on_error``, ``on_uncalibrated``, ``on_outside_domain``,
            ``own_message``.
        reason: Why, in words for a person.
        message: The policy's words: beside a flagged answer, or in place of a withheld one; null otherwise.
        confidence: Probability that the draft is correct, 0 to 1; null where no profile gives one.
        confidence_interval: How far it may be off, as two probabilities: what a profile knows that few
            answers were behind; null where it does not tell.
        confidence_score: The number behind it, larger where surer, which a profile's monitor watches; null
            likewise.
        scores: The draft's scores; null where it could not be scored.
        guarantees: Those by which the draft is let through; null where no profile can tell.
        quantiles: By the name of a score, the share of the profile's reference below it, 0 to 1.
        tool_calls: The calls of tools in the draft; none where it is withheld.
        sentences: Scores of each sentence, where the guard was told to score them and there are several; with
            the decision on each (:class:`VerdictSentenceDecision`), where the policy decides on sentences.
        finish_reason: Why the draft ended: ``stop``, ``length``, ``reasoning_length``; null if not known.
        usage: Tokens that the draft took; null where there is none.
        enforced: False where the policy only observes, and the draft is shown whatever ``action`` says.
        error: Why the answer could not be scored, decided on, escalated or recorded; or empty.
        request: Id of the request: 32 hexadecimal digits, the same in log, ticket and verdict.
        model: Name of the local model, which scored the draft.
        answered_by: Name of the model that gave the draft: the local one, or another.
        generated_by: The inference server that generated the draft, and how its weights are known; null where
            the local model did, or where it was only handed in to be decided on.
        outside_domain: Why the profile does not hold for the draft; empty where it does. Confidence,
            guarantees and quantiles are then unknown.
        domain: Names of the facts in which the draft differs from the profile's answers, such as ``turns``;
            none where the profile holds for it.
        uncertified: Why no guarantee of the profile holds for the draft, whatever its confidence; empty where
            they do.
        familiar: Whether the questions of the deployment so far are like the profile's: ``untried``,
            ``familiar`` or ``unlike``; null where no profile can tell.
        profile: SHA-256 of the profile; null where none was used.
        turns_left_out: How many earlier turns were no part of the prompt, since they were withheld.
        released: What was shown sentence by sentence (``streaming: sentences``); null for an answer that was
            decided on as a whole. ``action``, ``rule`` and ``reason`` are those of the sentence that ended
            it, or of the strictest that was shown; confidence and scores are known of a single one alone.
        timings: Seconds by stage (``answer_s``, ``score_s``, ``sentences_s``, ``judge_s``, ``escalate_s``) of
            the batch that the answer was in, and ``upstream_s`` that an inference server took; at least 0.
    """

    action: Action
    rule: str
    reason: str
    message: str | None
    confidence: float | None
    confidence_interval: list[float] | None
    confidence_score: float | None
    scores: VerdictScores | None
    guarantees: list[VerdictGuarantee] | None
    quantiles: dict[str, float]
    tool_calls: list[VerdictCall]
    sentences: list[VerdictSentence]
    finish_reason: str | None
    usage: VerdictUsage | None
    enforced: bool
    error: str
    request: str
    model: str
    answered_by: str
    generated_by: VerdictGeneration | None
    outside_domain: str
    domain: list[str]
    uncertified: str
    familiar: str | None
    profile: str | None
    turns_left_out: int
    released: VerdictReleased | None
    timings: dict[str, float]


class Verdict(VerdictFacts):
    """All that is known and was decided of one answer, without a word of a withheld draft.

    A verdict read from a message, a file or a checkpoint may be of an earlier version, which had fewer keys.

    Attributes:
        escalation: What came of it, where the answer was escalated; null otherwise.
        policy: SHA-256 of the policy.
        draft: What the model answered, withheld or not; only where it was asked for.
        reasoning: What the model thought before that; likewise, and where it thought.
    """

    escalation: VerdictEscalation | None
    policy: str
    draft: NotRequired[str | None]
    reasoning: NotRequired[str]


class AnswerDocument(Verdict):
    """A verdict beside the text that it is on: what ``guardrail ask --json`` prints.

    ``reasoning`` is there where the draft is shown, too.

    Attributes:
        answer: The text that may be shown.
    """

    answer: str


def withholds(verdict: object) -> bool:
    """Whether a verdict, whoever wrote it, says that what it is on stands in the place of an answer.

    What a target answered does not; nor does what a policy that only observes would have withheld.
    """
    if not isinstance(verdict, Mapping) or verdict.get("enforced") is False:
        return False
    escalation = verdict.get("escalation")
    is_of_target = isinstance(escalation, Mapping) and bool(escalation.get("source"))
    return verdict.get("action") in ("abstain", "escalate") and not is_of_target

"""A profile for people: its verdict in sentences, its figures and thresholds, and how it was made."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from guardrail.calibration.calibrators import Calibrator, Isotonic, Platt, VennAbers
from guardrail.calibration.profile import CertifiedThreshold, Profile
from guardrail.metrics import Figure, figure_of
from guardrail.reports.formatting import counted, interval, percent, promised, short, shown, visible
from guardrail.utils.record_store import FrozenModel

__all__ = [
    "Fact",
    "FigureRow",
    "Statement",
    "ThresholdRow",
    "Tone",
    "confidence_facts",
    "figure_rows",
    "making_facts",
    "model_facts",
    "threshold_rows",
    "verdict",
]


_INPUTS = {
    "hybridgrad": "HybridGrad alone",
    "signals": "several scores of the same pass",
    "probe": "scores of the same pass and a linear probe on its hidden states",
}
_TRANSFORMS = {"log": "log({})", "log_negative": "log(−{})", "identity": "{}"}


class Fact(NamedTuple):
    """A labelled fact.

    Attributes:
        label: The label.
        text: The fact.
        is_code: Whether the text is a hash or the like.
    """

    label: str
    text: str
    is_code: bool = False


def model_facts(profile: Profile) -> Iterator[Fact]:
    """The model and scorer that the profile is for."""
    model, scorer = profile.model, profile.scorer
    yield Fact("Answered by", visible(profile.author))
    yield Fact("Scored by", visible(model.name))
    quantized = f"quantized {visible(model.quantization)}" if model.quantization else "not quantized"
    yield Fact("Weights", f"{visible(model.dtype)}, {quantized}")
    yield Fact("Weights’ fingerprint", visible(model.weights), is_code=True)
    template = model.chat_template
    yield Fact("Chat template", visible(template) if template else "none", is_code=bool(template))
    token = "by the template’s rule" if scorer.semantic_token is None else f"{scorer.semantic_token}"
    yield Fact(
        "Scorer",
        f"version {scorer.version}, semantic token {token}, {scorer.reduction} of token losses, "
        f"{scorer.norm} of gradients, {scorer.layers} layers"
        + ("" if scorer.entropy_weight else ", no entropy weight")
        + (", tied embedding included" if scorer.include_tied_embedding else ""),
    )


def making_facts(profile: Profile) -> Iterator[Fact]:
    """How the profile was made: questions, judge, parts."""
    making = profile.making
    yield Fact("Made", f"{visible(making.created)} by guardrail {visible(making.library)}")
    yield Fact("Questions", visible(making.questions))
    yield Fact("Questions’ fingerprint", visible(making.questions_sha256), is_code=True)
    if profile.is_calibrated:
        right = f", {making.correct:,} judged right ({percent(making.correct / max(making.answers, 1))})"
        yield Fact("Answers", counted(making.answers, "answer") + right)
        yield Fact("Judge", visible(making.judge))
    parts = making.parts
    if making.adapted_from is not None:
        yield Fact("Adapted from", making.adapted_from, is_code=True)
    elif profile.is_calibrated:
        yield Fact(
            "Parts (no shared question)",
            f"{parts.get('fit', 0):,} for fitting, {parts.get('certify', 0):,} for certifying thresholds, "
            f"{parts.get('report', 0):,} held out for this report; drawn with seed {making.seed}",
        )
    if not profile.is_calibrated:
        yield Fact("Answers", f"{counted(making.answers, 'answer')}, not judged")
    if making.generation:
        yield Fact("Answers generated with", shown(making.generation))


def domain_facts(profile: Profile) -> Iterator[Fact]:
    """What the answers were like: where the profile holds."""
    domain = profile.domain
    single = domain.turns.high == 1
    yield Fact("Turns", "single questions" if single else f"conversations of {domain.turns} turns")
    under_one = domain.answers - domain.system.get("", 0)
    systems = (
        f"{counted(domain.systems, 'different one')}, in {percent(under_one / domain.answers)} of the prompts"
    )
    yield Fact("System message", systems if domain.systems else "none")
    for name, counts in (
        ("Form of the answer", domain.form),
        ("Script of the question", domain.script),
        ("Tools shown", domain.tools),
        ("Reasoning first", domain.reasoning),
    ):
        yield Fact(name, ", ".join(_shares(counts, domain.answers)))
    for name, span in (("Prompt", domain.prompt_tokens), ("Answer", domain.answer_tokens)):
        if span is not None:
            yield Fact(name, f"{span} tokens")


def _shares(counts: Mapping[str, int], answers: int) -> Iterator[str]:
    for value, count in counts.items():
        share = "" if count == answers else f" ({percent(count / answers)})"
        yield f"{visible(value) or 'none'}{share}"


def confidence_facts(profile: Profile) -> Iterator[Fact]:
    """How the confidence is computed."""
    model, calibrator = profile.confidence_model, profile.calibrator
    if model is None or calibrator is None:
        return
    yield Fact("Inputs", _INPUTS[model.inputs])
    parts = [(term.weight, _TRANSFORMS[term.transform].format(visible(term.score))) for term in model.terms]
    if model.probe:
        probe = f"probe ({2 * model.probe.size:,} weights, at {percent(model.probe.depth)} of the layers)"
        parts.append((model.probe.weight, probe))
    terms = (f"{'−' if weight < 0 else '+'} {abs(weight):.3g} · {name}" for weight, name in parts)
    yield Fact("Confidence score", " ".join([short(model.intercept), *terms]))
    yield Fact("Calibrator", _calibrator(calibrator))


def _calibrator(calibrator: Calibrator) -> str:
    if isinstance(calibrator, Platt):
        slope, intercept = short(calibrator.slope), short(calibrator.intercept)
        return f"Platt: a logistic curve, slope {slope}, intercept {intercept}"
    if isinstance(calibrator, Isotonic):
        return f"isotonic: a rising curve through {counted(len(calibrator.scores), 'point')}"
    if isinstance(calibrator, VennAbers):
        return f"Venn–Abers: two rising curves over {counted(len(calibrator.scores), 'score')}"
    shift = calibrator.intercept - calibrator.centre
    return (
        f"{_calibrator(calibrator.base)}; its logits adapted by {counted(calibrator.answers, 'answer')}: "
        f"shifted by {short(shift)}, slope {short(calibrator.slope)}"
    )


Better = Literal["higher", "lower", ""]


class FigureRow(NamedTuple):
    """A figure of the report.

    Attributes:
        name: Its name in the literature.
        figure: Its value, interval and n.
        better: Which direction is better.
        meaning: What it means.
    """

    name: str
    figure: Figure
    better: Better
    meaning: str


class ThresholdRow(NamedTuple):
    """A certified threshold and its result on the held-out answers.

    Attributes:
        certified: The threshold, feasible or not.
        coverage: Share of held-out answers accepted.
        error: Share of those that are wrong.
        accepted: Number of held-out answers accepted.
        errors: Number of wrong ones among them.
    """

    certified: CertifiedThreshold
    coverage: Figure | None
    error: Figure | None
    accepted: int
    errors: int


_ROWS: tuple[tuple[str, str, Better, str], ...] = (
    ("accuracy", "Right answers", "", "Share of the held-out answers that were judged right."),
    (
        "auroc",
        "AUROC",
        "higher",
        "How often a right answer ranks above a wrong one; 0.5 is chance, 1 is perfect.",
    ),
    (
        "auprc",
        "AUPRC of wrong answers",
        "higher",
        "Precision of finding wrong answers, least confident first; chance is the share of wrong answers.",
    ),
    ("prr", "PRR", "higher", "Gain from rejecting the least confident, from 0 (chance) to 1 (an oracle)."),
    (
        "aurc",
        "AURC",
        "lower",
        "Error rate among the accepted answers, averaged over all coverages; chance is the share of wrong "
        "answers.",
    ),
    (
        "ece",
        "ECE",
        "lower",
        "How far the probabilities are off on average. Chance contributes to it: compare the next line.",
    ),
    (
        "ece_if_calibrated",
        "ECE by chance",
        "",
        "ECE of perfect probabilities on as many answers, with the middle 95 % of its distribution.",
    ),
    ("brier", "Brier score", "lower", "Mean squared distance between probability and outcome."),
    (
        "brier_base_rate",
        "Brier of the base rate",
        "",
        "The same for always predicting the share of right answers.",
    ),
    ("brier_skill", "Brier skill", "higher", "Share of the base rate's Brier score that is removed."),
)


def figure_rows(report: Mapping[str, Any]) -> Iterator[FigureRow]:
    """The figures in a report."""
    for key, name, better, meaning in _ROWS:
        figure = figure_of(report, key)
        if figure is not None:
            yield FigureRow(name, figure, better, meaning)


def threshold_rows(profile: Profile) -> Iterator[ThresholdRow]:
    """Every requested threshold with its result on the held-out answers."""
    measured = {(one.max_error, one.confidence, one.kind): one for one in _measured(profile.report)}
    for certified in profile.certified:
        one = measured.get((certified.max_error, certified.confidence, certified.kind))
        if one is None or one.threshold != certified.threshold:
            yield ThresholdRow(certified, None, None, 0, 0)
        else:
            yield ThresholdRow(certified, one.coverage, one.error, one.accepted, one.errors)


class _Measured(FrozenModel):
    max_error: float
    confidence: float
    threshold: float | None
    coverage: Figure
    error: Figure
    accepted: int
    errors: int
    kind: str = ""


def _measured(report: Mapping[str, Any]) -> list[_Measured]:
    try:
        return TypeAdapter(list[_Measured]).validate_python(report.get("certified", []))
    except ValidationError:
        return []


Tone = Literal["good", "caution", "bad", "plain"]


class Statement(NamedTuple):
    """One or two sentences of the verdict.

    Attributes:
        tone: Whether it is good news.
        topic: Its subject in a word or two.
        text: The sentences.
    """

    tone: Tone
    topic: str
    text: str


_GENERAL = Statement(
    "caution",
    "General",
    "A general profile, for other people's traffic: it gives a confidence, and its thresholds accept no "
    "answer of an app. A profile of your own questions certifies (guardrail calibrate).",
)


def verdict(profile: Profile) -> tuple[Statement, ...]:
    """What can be said about a profile, the basis first."""
    if not profile.is_calibrated:
        return (
            Statement(
                "plain",
                "Not calibrated",
                "This profile was made without labels. It gives a score's rank among "
                f"{counted(profile.making.answers, 'answer')} of the same model, but no probability of being "
                "right and no guarantee.",
            ),
        )
    if profile.is_adapted:
        few = counted(profile.making.answers, "answer")
        text = (
            f"The confidence of another profile, corrected by {few} to questions like those that it is for. "
            "So few tell how high it should be, within an interval that is given with each answer. They "
            "cannot show how well it does, and certify nothing."
        )
        return (Statement("caution", "Adapted", text),)
    report = profile.report
    parts = (_basis(report), _ranking(report), _probabilities(report), _skill(report))
    general = (_GENERAL,) if profile.is_general else ()
    has_kinds = any(one.kind for one in profile.certified)
    thresholds = (_threshold(row, has_kinds=has_kinds) for row in threshold_rows(profile))
    return (*(part for part in parts if part), *thresholds, *general)


def _basis(report: Mapping[str, Any]) -> Statement | None:
    accuracy = figure_of(report, "accuracy")
    if accuracy is None or accuracy.value is None:
        return None
    right = round(accuracy.value * accuracy.n)
    return Statement(
        "plain",
        "Basis",
        f"Of {counted(accuracy.n, 'held-out answer')}, {right:,} {'was' if right == 1 else 'were'} right "
        f"({percent(accuracy.value)}). Nothing was fitted or certified on them.",
    )


def _ranking(report: Mapping[str, Any]) -> Statement | None:
    auroc = figure_of(report, "auroc")
    if auroc is None:
        return None
    if auroc.value is None:
        text = f"Whether the score separates right from wrong is unknown: {auroc.reason}."
        return Statement("caution", "Ranking", text)
    often = f"a right answer scores higher than a wrong one {percent(auroc.value)} of the time{_span(auroc)}"
    if auroc.low is None or auroc.high is None:
        return Statement("caution", "Ranking", f"On these answers, {often}: {auroc.reason}.")
    if auroc.low > 0.5:
        return Statement("good", "Ranking", f"The score separates right from wrong: {often}.")
    if auroc.high < 0.5:
        return Statement("bad", "Ranking", f"The score is worse than chance: {often}.")
    return Statement("caution", "Ranking", f"The score is not distinguishable from chance: {often}.")


def _probabilities(report: Mapping[str, Any]) -> Statement | None:
    ece, chance = figure_of(report, "ece"), figure_of(report, "ece_if_calibrated")
    if ece is None or chance is None or ece.value is None or chance.value is None or chance.high is None:
        return None
    off = (
        f"average error {_points(ece.value)}; chance alone gives {_points(chance.value)}, and up to "
        f"{_points(chance.high)}"
    )
    if ece.value <= chance.high:
        return Statement("good", "Probabilities", f"No sign of miscalibration: {off}.")
    text = f"The probabilities are off by more than chance explains: {off}."
    return Statement("caution", "Probabilities", text)


def _skill(report: Mapping[str, Any]) -> Statement | None:
    skill, accuracy = figure_of(report, "brier_skill"), figure_of(report, "accuracy")
    if skill is None or skill.value is None or accuracy is None or accuracy.value is None:
        return None
    if skill.low is not None and skill.low > 0:
        text = f"Better than always saying {percent(accuracy.value)}: the Brier score is"
        return Statement("good", "Gain", f"{text} {percent(skill.value)} lower{_span(skill)}.")
    text = f"Not shown to be better than always saying {percent(accuracy.value)}: the Brier skill is"
    return Statement("caution", "Gain", f"{text} {percent(skill.value)}{_span(skill)}.")


def _threshold(row: ThresholdRow, *, has_kinds: bool) -> Statement:
    certified, coverage, error = row.certified, row.coverage, row.error
    # Beside promises about kinds, a pooled one must not be read as one about each of them.
    among = " in this mix of kinds" if has_kinds else ""
    if certified.kind:
        among = f" of kind {visible(certified.kind)}"
    most, sure = promised(certified.max_error), promised(certified.confidence)
    if certified.threshold is None:
        reason = certified.reason.removesuffix(".")
        return Statement(
            "bad",
            "No guarantee",
            f"No threshold for at most {most} wrong{among} with {sure} confidence: {reason}.",
        )
    text = (
        f"At most {most} of the accepted answers{among} are wrong, with {sure} confidence: certified on "
        f"{counted(certified.accepted, 'accepted answer')}, {certified.errors:,} of them wrong."
    )
    if coverage is None or coverage.value is None or error is None:
        return Statement("plain", "Guarantee", text)
    if error.value is None or error.low is None:
        text += f" It accepts none of the held-out answers{among}, so its error rate there is unknown."
        return Statement("caution", "Guarantee", text)
    text += (
        f" It accepts {percent(coverage.value)} of the held-out answers{among}, and {row.errors:,} of these"
    )
    text += f" {row.accepted:,} are wrong: {percent(error.value)}{_span(error)}"
    if error.value <= certified.max_error:
        return Statement("good", "Guarantee", f"{text}.")
    if error.low <= certified.max_error:
        return Statement("caution", "Guarantee", f"{text}, above the promise, but chance may explain it.")
    text += ", more than chance explains. Do not rely on it; calibrate again."
    return Statement("bad", "Guarantee", text)


def _span(figure: Figure) -> str:
    return (
        f" (95\N{NO-BREAK SPACE}% interval {interval(figure, as_percent=True)})"
        if figure.low is not None
        else ""
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"

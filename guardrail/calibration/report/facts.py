"""How a profile was made, and what it holds, as lines of a label and a text."""

from collections.abc import Iterator
from typing import NamedTuple

from guardrail.calibration.calibrators import Isotonic, Platt, VennAbers
from guardrail.calibration.profile import Profile
from guardrail.calibration.report.words import counted, percent, short, shown, visible

__all__ = ["Fact", "confidence_facts", "making_facts", "model_facts"]

_INPUTS = {
    "hybridgrad": "HybridGrad alone",
    "signals": "several scores of the same pass",
    "probe": "scores of the same pass and a linear probe on its hidden states",
}
_TRANSFORMS = {"log": "log({})", "log_negative": "log(−{})", "identity": "{}"}


class Fact(NamedTuple):
    """A line.

    Attributes:
        label: What it is about.
        text: What is said of it.
        is_code: Whether it is a hash or the like.
    """

    label: str
    text: str
    is_code: bool = False


def model_facts(profile: Profile) -> Iterator[Fact]:
    """The model and the scorer that a profile holds for."""
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
    """The questions, the judge and the parts."""
    making = profile.making
    yield Fact("Made", f"{visible(making.created)} by guardrail {visible(making.library)}")
    yield Fact("Questions", visible(making.questions))
    yield Fact("Questions’ fingerprint", visible(making.questions_sha256), is_code=True)
    if profile.is_calibrated:
        right = f", {making.correct:,} judged right ({percent(making.correct / max(making.answers, 1))})"
        yield Fact("Answers", counted(making.answers, "answer") + right)
        yield Fact("Judge", visible(making.judge))
        parts = making.parts
        yield Fact(
            "Parts, which share no question",
            f"{parts.get('fit', 0):,} to fit on, {parts.get('certify', 0):,} to certify thresholds on, "
            f"{parts.get('report', 0):,} held out for this report; drawn by seed {making.seed}",
        )
    else:
        yield Fact("Answers", f"{counted(making.answers, 'answer')}, not judged")
    if making.generation:
        yield Fact("Answers generated with", shown(making.generation))


def confidence_facts(profile: Profile) -> Iterator[Fact]:
    """What the confidence is made of."""
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
    if isinstance(calibrator, Platt):
        slope, intercept = short(calibrator.slope), short(calibrator.intercept)
        text = f"Platt: a logistic curve, slope {slope}, intercept {intercept}"
    elif isinstance(calibrator, Isotonic):
        text = f"isotonic: a rising curve through {counted(len(calibrator.scores), 'point')}"
    elif isinstance(calibrator, VennAbers):
        text = f"Venn–Abers: two rising curves over {counted(len(calibrator.scores), 'score')}"
    yield Fact("Calibrator", text)

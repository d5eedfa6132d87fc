"""Facts of a profile for people: its model, how it was made, where it holds, how it computes a confidence."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from guardrail.calibration.calibrators import Calibrator, Isotonic, Platt, VennAbers
from guardrail.calibration.making import SemanticTokenChoice
from guardrail.calibration.profile import Profile
from guardrail.reports.formatting import counted, percent, short, shown, visible

__all__ = ["Fact", "confidence_facts", "domain_facts", "making_facts", "model_facts"]


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
    if making.semantic_token is not None:
        yield Fact("Semantic token", " ".join(_semantic_token(making.semantic_token)))
    if not profile.is_calibrated:
        yield Fact("Answers", f"{counted(making.answers, 'answer')}, not judged")
    if making.generation:
        yield Fact("Answers generated with", shown(making.generation))


def _semantic_token(choice: SemanticTokenChoice) -> Iterator[str]:
    """How t* was chosen, in sentences."""
    by_position = {one.position: one for one in choice.candidates}
    chosen = by_position[choice.position]
    best = max((one for one in choice.candidates if one is not chosen), key=lambda one: one.auroc)
    where = "as expected" if choice.position == choice.expected else f"{choice.expected} was expected"
    yield (
        f"{choice.position} ({where}), by {counted(choice.answers, 'label')}: AUROC of HybridGrad "
        f"{chosen.auroc:.3f} there, {by_position[choice.expected].auroc:.3f} at {choice.expected}, "
        f"{best.auroc:.3f} at the best other, {best.position}."
    )
    if (found := choice.cross_fitted) is not None:
        yield (
            f"Cross-fitted, the choice gives {found.auroc:.3f}, {found.above_expected:+.3f} against the "
            f"expected token (standard error {found.standard_error:.3f})."
        )
    if (said := choice.preservation) is not None:
        yield (
            f"Paraphrases say {said.position}, by {said.margin:.3f} before {said.runner_up} "
            f"({said.low:.3f} to {said.high:.3f}; {counted(said.queries, 'question')})."
        )


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

"""``guardrail ask --segments``: how sure the model was of each sentence of its answer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from guardrail.calibration.segments import NOT_CALIBRATED, SegmentAssessment, assess_segment
from guardrail.cli.answer import print_answer, shown_pieces
from guardrail.errors import ForeignProfileError
from guardrail.scoring.combining import Combination, combined_scores
from guardrail.scoring.options import ScoringOptions

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace
    from guardrail.scoring.spans import Span
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["Segmented", "as_plain", "print_segmented", "profile_for", "score_sentences"]


class Segmented(NamedTuple):
    """The sentences of an answer.

    Attributes:
        spans: Their tokens.
        scores: Their scores.
        assessments: Where they stand in a profile, if one was given.
        combine: How they are made one.
    """

    spans: "Sequence[Span]"
    scores: "Sequence[Uncertainty]"
    assessments: Sequence[SegmentAssessment]
    combine: Combination


def profile_for(model: "LocalModel", path: Path) -> "Profile":
    """Read a profile and make sure that it is of this model.

    Raises:
        ProfileError: It cannot be read; ForeignProfileError where it is of another model or scorer.
    """
    from guardrail.calibration.profile import read_profile
    from guardrail.models.fingerprint import fingerprint_model
    from guardrail.scoring.fingerprint import fingerprint_scorer

    profile = read_profile(path)
    profile.check(fingerprint_model(model), fingerprint_scorer(profile.scorer.options()))
    if outside := profile.outside_domain(None, model.name):
        raise ForeignProfileError(f"The profile {path} does not hold here: {outside}.", ["answered_by"])
    return profile


def score_sentences(
    model: "LocalModel",
    trace: "Trace",
    options: ScoringOptions,
    profile: "Profile | None",
    combine: Combination,
) -> Segmented:
    """Score each sentence of an answer whose states are still kept."""
    from guardrail.scoring.segments import score_segments, sentence_spans

    spans = sentence_spans(trace)
    scores = score_segments(model, trace, spans, options)
    assessments = [assess_segment(profile, one) for one in scores] if profile else []
    return Segmented(spans, scores, assessments, combine)


def as_plain(trace: "Trace", segmented: Segmented) -> dict[str, Any]:
    """What is added to the JSON of an answer."""
    segments: list[dict[str, Any]] = []
    none = [None] * len(segmented.spans)
    assessments: Sequence[SegmentAssessment | None] = segmented.assessments or none
    for text, span, one, assessed in zip(
        _texts(trace, segmented), segmented.spans, segmented.scores, assessments, strict=True
    ):
        segments.append(
            {
                "text": text,
                "start": span.start,
                "end": span.end,
                **one.scores(),
                "quantiles": dict(assessed.quantiles) if assessed else None,
                "confidence": assessed.uncalibrated_confidence if assessed else None,
                "confidence_is_calibrated": False,
            }
        )
    combined = combined_scores(segmented.scores, segmented.combine)
    reduction = segmented.scores[0].options.reduction
    return {
        "segments": segments,
        "combined": {"combine": segmented.combine, "reduction": reduction, **combined},
    }


def print_segmented(
    console: Console, trace: "Trace", uncertainty: "Uncertainty", segmented: Segmented
) -> None:
    """Print the answer, each sentence coloured by its HybridGrad, and a table of them."""
    shading = [replace(token, weight=one.hybridgrad) for one in segmented.scores for token in one.tokens]
    print_answer(console, trace, uncertainty, shading, _table(trace, segmented))


def _table(trace: "Trace", segmented: Segmented) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("HybridGrad", justify="right", min_width=len("HybridGrad"))
    if segmented.assessments:
        table.add_column("Beside answers", justify="right", min_width=len("Beside answers"))
    table.add_column("Sentence", overflow="ellipsis", no_wrap=True)
    for at, text in enumerate(_texts(trace, segmented)):
        row = [Text(f"{segmented.scores[at].hybridgrad:.3g}")]
        if segmented.assessments:
            share = segmented.assessments[at].quantiles.get("hybridgrad")
            row.append(Text("unknown" if share is None else f"above {share:.0%}"))
        table.add_row(*row, Text(text.replace("\n", "⏎")))
    combined = combined_scores(segmented.scores, segmented.combine)["hybridgrad"]
    seconds = segmented.scores[0].score_s
    notes = [
        Text(
            f"{segmented.combine.capitalize()} of the sentences: {combined:.3g}; {seconds:.2f} s to score",
            "dim",
        )
    ]
    if segmented.assessments:
        notes.append(Text(NOT_CALIBRATED, "dim"))
    return Group(table, *notes)


def _texts(trace: "Trace", segmented: Segmented) -> list[str]:
    pieces, first = shown_pieces(trace.text, trace.answer_texts), trace.answer_start
    return ["".join(pieces[span.start - first : span.end - first]).strip() for span in segmented.spans]

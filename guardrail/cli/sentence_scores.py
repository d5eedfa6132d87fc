"""The sentences of an answer, each with scores of its own: on a terminal and in JSON."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, cast

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from guardrail.calibration.confidence import NOT_CALIBRATED, SegmentAssessment, assess_segment
from guardrail.cli.render import print_answer, shown_pieces
from guardrail.errors import ForeignProfileError
from guardrail.escalation.verdict import VerdictScores, VerdictSentence
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.uncertainty import Combination, combined_scores

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace
    from guardrail.scoring.options import Span
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["Segmented", "print_segmented", "profile_for", "score_sentences", "segmented_document"]


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
    from guardrail.scoring.options import fingerprint_scorer

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


class SentenceDocument(VerdictSentence):
    """A sentence as ``guardrail ask --segments --json`` prints it, with its scores.

    Attributes:
        text: The sentence.
        quantiles: By the name of a score, the share of the profile's whole answers below it, 0 to 1; null
            without a profile.
        confidence: What the profile would say of a whole answer with these scores, 0 to 1; null likewise.
        confidence_is_calibrated: False: no profile is made of sentences.
    """

    text: str
    quantiles: dict[str, float] | None
    confidence: float | None
    confidence_is_calibrated: Literal[False]


class SegmentedDocument(TypedDict):
    """What ``--segments`` adds to the JSON of an answer.

    Attributes:
        segments: The sentences in order.
        combined: What the scores of the sentences come to: each score by name, how they were combined
            (``combine``), and how each was reduced over its tokens (``reduction``).
    """

    segments: list[SentenceDocument]
    combined: dict[str, str | float]


def segmented_document(trace: "Trace", segmented: Segmented) -> SegmentedDocument:
    """What is added to the JSON of an answer."""
    segments: list[SentenceDocument] = []
    none = [None] * len(segmented.spans)
    assessments: Sequence[SegmentAssessment | None] = segmented.assessments or none
    for text, span, one, assessed in zip(
        _texts(trace, segmented), segmented.spans, segmented.scores, assessments, strict=True
    ):
        segments.append(
            SentenceDocument(
                text=text,
                start=span.start,
                end=span.end,
                **cast("VerdictScores", dict(one.scores())),
                quantiles=dict(assessed.quantiles) if assessed else None,
                confidence=assessed.uncalibrated_confidence if assessed else None,
                confidence_is_calibrated=False,
            )
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

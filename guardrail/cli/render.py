"""Answers on a terminal: the text, its badge, its tokens, and its sentences (these also as JSON)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, cast

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.calibration.confidence import NOT_CALIBRATED, SegmentAssessment
from guardrail.escalation.verdict import VerdictScores, VerdictSentence
from guardrail.scoring.options import Combination, Span
from guardrail.scoring.uncertainty import TokenScore, Uncertainty, combined_scores
from guardrail.utils.text import visible

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.models.trace import Trace

__all__ = [
    "Segmented",
    "SegmentedDocument",
    "SentenceDocument",
    "answer_text",
    "print_answer",
    "print_guarded",
    "print_segmented",
    "segmented_document",
    "shown_pieces",
]


# From hardly to most: backgrounds that black text is readable on.
_PALE, _STRONG = (255, 244, 200), (240, 96, 72)
_LEAST_SHARE = 0.08
_END = "∎"

Colours = Callable[[float], str]


def print_answer(
    console: Console,
    trace: "Trace",
    uncertainty: Uncertainty,
    shading: Sequence[TokenScore] | None = None,
    below: RenderableType | None = None,
) -> None:
    """Print the answer, coloured by what each token adds to the uncertainty, and the scores in words.

    Args:
        console: Where to.
        trace: The answer.
        uncertainty: Its scores.
        shading: Tokens whose weights colour it instead.
        below: What comes between the answer and its scores.
    """
    coloured = console.color_system is not None and not console.no_color
    colours = _shade if console.color_system in {"256", "truecolor"} else _step
    tokens = uncertainty.tokens if shading is None else shading
    console.print(answer_text(trace, tokens, colours if coloured else None), soft_wrap=not coloured)
    console.print()
    if below is not None:
        console.print(below)
        console.print()
    console.print(_scores(uncertainty))
    console.print()
    console.print(_circumstances(trace, uncertainty))
    if coloured:
        console.print()
        console.print(_legend(colours))


def answer_text(trace: "Trace", tokens: Sequence[TokenScore], colours: Colours | None) -> Text:
    """The answer, each token on a background that shows its weight beside the largest, if there are colours.

    The end-of-turn token is scored too; where there is colour it is shown as ∎.
    """
    answer = trace.text
    if colours is None:
        return Text(answer)
    largest = max(token.weight for token in tokens) or 1.0
    text, shown = Text(), ""
    pieces = shown_pieces(answer, [token.text for token in tokens])
    for token, shown in zip(tokens, pieces, strict=True):
        text.append(shown, colours(token.weight / largest) if shown.strip() else "")
    text.append(answer[len("".join(pieces)) :])
    if trace.finish_reason == "stop" and not shown:
        share = tokens[-1].weight / largest
        text.append(" ").append(_END, colours(share) or "dim")
    return text


def shown_pieces(answer: str, token_texts: Sequence[str]) -> list[str]:
    """What each token has in the answer: nothing, if it is special or follows a stop string."""
    pieces, at = [], 0
    for text in token_texts:
        shown = _in_common(text, answer[at:])
        if not shown and at == 0:
            # Some tokenizers write the space before a word, and drop that of the first.
            shown = _in_common(text.lstrip(), answer)
        pieces.append(shown)
        at += len(shown)
    return pieces


def _scores(uncertainty: Uncertainty) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Uncertainty", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("higher means less sure", style="dim", header_style="dim")
    value, bold = uncertainty, "bold"
    _add(table, "HybridGrad", value.hybridgrad, "SemGrad and ParaGrad, balanced by the entropy", bold)
    _add(table, "  SemGrad", value.semgrad, "how the question's meaning sways the answer")
    _add(table, "  ParaGrad", value.paragrad, "how the model's weights sway it")
    if value.exgrad is not None:
        _add(table, "  ExGrad", value.exgrad, "ParaGrad with every token counted alike")
    _add(table, "Mean entropy", value.mean_entropy, "nats; 0 where only one token would do")
    _add(table, "Largest entropy", value.max_entropy, _where_largest(uncertainty.tokens))
    _add(table, "Perplexity", value.perplexity, "tokens it hesitated between, on average")
    table.add_row()
    table.add_row(Text("Likelihood", bold), "", "lower means less sure")
    _add(table, "Whole answer", value.log_likelihood, "log-probability; 0 would be certain")
    _add(table, "Unlikeliest token", value.min_token_probability, _where_least(uncertainty.tokens))
    return table


def _add(table: Table, name: str, value: float, words: str, style: str = "") -> None:
    table.add_row(Text(name, style), Text(f"{value:.3g}", style), Text(words))


def _circumstances(trace: "Trace", uncertainty: Uncertainty) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    usage, token = trace.usage, uncertainty.semantic_token
    ended = ", cut off there" if trace.finish_reason == "length" else ""
    thought = f"{trace.answer_start:,} in the reasoning, " if trace.answer_start else ""
    computation: str = uncertainty.computation
    if uncertainty.computation_reason:
        computation += f": {uncertainty.computation_reason}"
    seconds = uncertainty.score_s
    rows = [
        ("Model", trace.model),
        (
            "Tokens",
            f"{usage.prompt_tokens:,} in the prompt, {thought}{len(trace.answer_ids):,} in the answer{ended}",
        ),
        ("Semantic token", f"{token.position} from the end of the prompt: {_quoted(token.text)}"),
        ("Computation", computation),
        ("Time", f"{trace.generate_s:.2f} s to answer, {seconds:.2f} s to score"),
    ]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _legend(colours: Colours) -> Text:
    text = Text.assemble(("Colour: ", "dim"))
    for share in (0.1, 0.4, 0.7, 1.0):
        text.append("  ", colours(share))
    return text.append(f" where the uncertainty comes from   {_END} the end of the answer", "dim")


def _in_common(one: str, other: str) -> str:
    return one[: len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))]


def _shade(share: float) -> str:
    if share < _LEAST_SHARE:
        return ""
    mixed = (round(pale + share * (strong - pale)) for pale, strong in zip(_PALE, _STRONG, strict=True))
    return f"black on rgb({','.join(map(str, mixed))})"


def _step(share: float) -> str:
    """For terminals that have no shades."""
    return "black on red" if share > 0.5 else "black on yellow" if share > 0.15 else ""


def _where_largest(tokens: Sequence[TokenScore]) -> str:
    return f"at {_quoted(max(tokens, key=lambda token: token.entropy).text)}"


def _where_least(tokens: Sequence[TokenScore]) -> str:
    return f"probability of {_quoted(min(tokens, key=lambda token: token.log_probability).text)}"


def _quoted(text: str) -> str:
    return f"“{text.replace(chr(10), '⏎')}”"


_STYLES = {
    "pass": "bold black on green",
    "flag": "bold black on yellow",
    "abstain": "bold white on red",
    "escalate": "bold black on cyan",
}


def sentence_printer(console: Console) -> Callable[[str], None]:
    """Prints pieces of an answer one behind the other, as they come."""
    return lambda piece: console.print(Text(visible(piece)), end="", soft_wrap=True)


def print_guarded(
    console: Console, answer: "GuardedAnswer", policy: str, *, show_draft: bool = False, told: int = 0
) -> None:
    """Print what may be shown of an answer, its badge, and what decided.

    Args:
        console: Where to.
        answer: The answer.
        policy: The policy's name.
        show_draft: Also print a draft that is withheld.
        told: How many characters of the answer were printed already.
    """
    console.print(Text(visible(answer.text[told:])), soft_wrap=True)
    if answer.message is not None and not answer.text.endswith(answer.message):
        console.print(Text(visible(answer.message), "italic"), soft_wrap=True)
    console.print()
    console.print(_badge(answer))
    console.print()
    console.print(_facts(answer, policy, show_draft=show_draft))


def _badge(answer: "GuardedAnswer") -> Text:
    text = Text(f" {answer.action.upper()} ", _STYLES[answer.action])
    if answer.confidence is None:
        text.append(" no confidence")
    else:
        from guardrail.guard.answer import confidence_in_words, confidence_percent

        words = confidence_in_words(answer.confidence)
        text.append(f" {words} · {confidence_percent(answer.confidence)}")
        if answer.escalation is not None and answer.escalation.source is not None:
            text.append(" (the local model's answer, which is not shown)", "dim")
    return text if answer.enforced else text.append(" · observed only", "dim")


def _facts(answer: "GuardedAnswer", policy: str, *, show_draft: bool) -> Table:
    rows = [("Rule", f"{answer.rule}: {answer.reason}")]
    rows += [("Guarantee", f"{one}, of the answers let through by it") for one in answer.guarantees or ()]
    if answer.uncertified and answer.uncertified not in answer.reason:
        rows.append(("Guarantee", f"none: {answer.uncertified}"))
    if answer.familiar == "unlike":
        rows.append(("Questions", "so far unlike those of the profile: its confidence may be far off"))
    if answer.outside_domain and answer.outside_domain not in answer.reason:
        rows.append(("Profile", f"does not hold here: {answer.outside_domain}"))
    if answer.escalation is not None:
        rows += [
            ("Escalated", f"to {one.target}: {one.error or one.outcome}")
            for one in answer.escalation.attempts
        ]
        if answer.escalation.source is not None:
            rows.append(("Answered by", answer.escalation.source))
        if answer.escalation.ticket is not None:
            rows.append(("Ticket", answer.escalation.ticket))
    if answer.error and answer.error not in answer.reason:
        rows.append(("Error", answer.error))
    if show_draft and answer.is_withheld:
        rows.append(("Draft", answer.draft or "none"))
    rows.append(("Policy", f"{policy} ({answer.policy_digest[:12]})"))
    rows.append(("Profile", answer.profile_digest[:12] if answer.profile_digest else "none"))
    rows.append(("Model", answer.answered_by or answer.model))
    if answer.answered_by not in ("", answer.model):
        rows.append(("Scored by", answer.model))
    stages = {"answer_s": "to answer", "score_s": "to score", "escalate_s": "to escalate"}
    times = [f"{answer.timings[at]:.2f} s {words}" for at, words in stages.items() if at in answer.timings]
    rows.append(("Time", ", ".join(times)))
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows:
        if value:
            table.add_row(Text(name), Text(visible(value)))
    return table


class Segmented(NamedTuple):
    """The sentences of an answer.

    Attributes:
        spans: Their tokens.
        scores: Their scores.
        assessments: Where they stand in a profile, if one was given.
        combine: How they are made one.
    """

    spans: Sequence[Span]
    scores: Sequence[Uncertainty]
    assessments: Sequence[SegmentAssessment]
    combine: Combination


def print_segmented(console: Console, trace: "Trace", uncertainty: Uncertainty, segmented: Segmented) -> None:
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

"""``guardrail ask``: one question, its answer, and how sure the model was."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from guardrail.cli.common import (
    AsJson,
    ChatTemplateKwargs,
    Device,
    Dtype,
    MaxReasoningTokens,
    Model,
    Quantization,
    Reduction,
    SemanticToken,
    open_model,
    print_json,
    progress_bar,
    readable,
    results,
)
from guardrail.errors import ForeignProfileError, OptionError
from guardrail.models.chat_template import parse_chat_template_kwargs
from guardrail.models.documents import as_grounded
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.models.sampling import Sampling
from guardrail.policy.model import SENTENCES
from guardrail.scoring.options import Combination, ScoringOptions
from guardrail.utils.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardrail.calibration.profile import Profile
    from guardrail.cli.render import Segmented
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace
    from guardrail.utils.threads import ProgressCallback

_ANSWER = "Answer"
_POLICY = "Policy"
_SEGMENTS = "Sentences"
# Of a document; no context is so long.
_MOST_BYTES = 8_000_000


def ask(
    ctx: typer.Context,
    question: Annotated[
        str, typer.Argument(help="What to ask.", metavar="QUESTION", show_default=False, callback=readable)
    ],
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    system: Annotated[
        str | None,
        typer.Option(
            help="A system message before the question.", callback=readable, rich_help_panel=_ANSWER
        ),
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            help="A text to answer by. It stands before the question, declared as a document for a profile "
            "that reads how much it moved the answer.",
            show_default=False,
            rich_help_panel=_ANSWER,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Most tokens of the answer: 256, or with --policy what its profile was made with.",
            show_default=False,
            rich_help_panel=_ANSWER,
        ),
    ] = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    temperature: Annotated[
        float,
        typer.Option(help="0 for greedy decoding; above it, tokens are drawn.", rich_help_panel=_ANSWER),
    ] = 0.0,
    top_p: Annotated[
        float,
        typer.Option(
            help="Draw from the smallest set of tokens with this much probability.", rich_help_panel=_ANSWER
        ),
    ] = 1.0,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            help="A text that ends the answer. Can be given again.",
            callback=readable,
            rich_help_panel=_ANSWER,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Makes drawing repeatable.", rich_help_panel=_ANSWER)
    ] = None,
    semantic_token: SemanticToken = None,
    reduction: Reduction = "sum",
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="Let a policy decide what is shown: its file, or builtin:NAME.",
            show_default=False,
            rich_help_panel=_POLICY,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            help="What the policy's rules may go by. Can be given again.",
            callback=readable,
            rich_help_panel=_POLICY,
        ),
    ] = None,
    show_draft: Annotated[
        bool,
        typer.Option("--show-draft", help="Show an answer that is withheld, too.", rich_help_panel=_POLICY),
    ] = False,
    segments: Annotated[
        bool,
        typer.Option("--segments", help="Also score each sentence of the answer.", rich_help_panel=_SEGMENTS),
    ] = False,
    combine: Annotated[
        Combination | None,
        typer.Option(
            help="What the scores of the sentences come to: the worst, if not given.",
            show_default=False,
            rich_help_panel=_SEGMENTS,
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Score as this profile does, and say where each sentence stands beside its whole answers.",
            show_default=False,
            rich_help_panel=_SEGMENTS,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a question. Shows where the answer's uncertainty comes from, and how large it is.

    With --policy: shows the answer if the policy lets it through, what was decided, and by which rule.

    With --segments: each sentence with its own HybridGrad, and coloured by it. Unless told otherwise that is
    of the mean over its tokens, so that a long sentence is not less sure for being long.

    Exit status: 0 also where a policy withholds the answer; the action is in the JSON.
    """
    sampling = Sampling(
        256 if max_tokens is None else max_tokens,
        temperature,
        top_p,
        seed,
        tuple(stop or ()),
        max_reasoning_tokens=max_reasoning_tokens,
    )
    options = ScoringOptions(semantic_token=semantic_token, reduction=reduction)
    messages = [_asked(question, document)]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    if (combine or profile) and not segments:
        raise OptionError("--combine and --profile go with --segments.")
    if (policy or profile) and options != ScoringOptions():
        raise OptionError(
            f"With {'--policy, its' if policy else '--profile, the'} profile says how to score: leave out "
            "the options of it."
        )
    if policy is not None:
        if segments:
            raise OptionError("A policy decides on whole answers: --segments goes without --policy.")
        _ask_guarded(
            _GuardedAsk(
                messages,
                None if max_tokens is None and sampling == Sampling() else sampling,
                policy,
                tag or [],
                show_draft,
                as_json,
                parse_chat_template_kwargs(chat_template_kwargs),
            ),
            None if _is_default(ctx, "model") else model,
            lambda name, progress: open_model(name, device, dtype, quantization, progress),
        )
        return
    if tag or show_draft:
        raise OptionError("--tag and --show-draft go with --policy.")
    with progress_bar() as progress:
        local = open_model(model, device, dtype, quantization, progress, chat_template_kwargs)
        from guardrail.cli.render import print_answer, print_segmented, segmented_document
        from guardrail.scoring.records import as_record
        from guardrail.scoring.score import score
        from guardrail.scoring.semantic_tokens import with_known_token

        scored_as = profile_for(local, profile) if profile else None
        options = scored_as.scorer.options() if scored_as else with_known_token(options, local)
        averaged = scored_as is None and _is_default(ctx, "reduction")
        of_sentences = replace(options, reduction="mean") if averaged else options
        progress("answering", 0, None)
        trace = local.generate(messages, sampling)
        progress("scoring", 0, None)
        uncertainty = score(local, trace, options, release=not segments)
        segmented = (
            score_sentences(local, trace, of_sentences, scored_as, combine or "worst") if segments else None
        )
    if as_json:
        record = as_record(trace, uncertainty)
        print_json({**record, **segmented_document(trace, segmented)} if segmented else record)
    elif segmented:
        print_segmented(results(), trace, uncertainty, segmented)
    else:
        print_answer(results(), trace, uncertainty)


def _asked(question: str, document: Path | None) -> dict[str, str]:
    """The question as a message, behind the text of a file."""
    if document is None:
        return {"role": "user", "content": question}
    try:
        text = read_regular(document, _MOST_BYTES).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise OptionError(f"The document {document} cannot be read: {why}.") from error
    return as_grounded(question, text)


class _GuardedAsk(NamedTuple):
    messages: list[dict[str, str]]
    sampling: Sampling | None
    policy: str
    tags: list[str]
    show_draft: bool
    as_json: bool
    chat_template_kwargs: dict[str, Any]


def _ask_guarded(
    asked: _GuardedAsk, model: str | None, open_named: "Callable[[str, ProgressCallback], LocalModel]"
) -> None:
    from guardrail.policy.load import load_policy

    # Before the model, which takes longer: mistakes in a policy are told at once.
    policy = load_policy(asked.policy)
    with progress_bar() as progress:
        local = open_named(model or policy.model or DEFAULT_MODEL, progress)
        from guardrail.guard import Guard

        guard = Guard(policy, local, chat_template_kwargs=asked.chat_template_kwargs)
        progress("answering", 0, None)
        if policy.streaming != SENTENCES or asked.as_json:
            answer = guard.ask(asked.messages, asked.sampling, tags=asked.tags)
    if asked.as_json:
        print_json(answer.as_document(draft=asked.show_draft))
        return
    from guardrail.cli.render import print_guarded, sentence_printer

    console, told = results(), 0
    if policy.streaming == SENTENCES:
        from guardrail.models.decoding import GenerationControls

        printer = sentence_printer(console)
        controls = GenerationControls(on_text=printer)
        answer = guard.ask(asked.messages, asked.sampling, tags=asked.tags, controls=controls)
        told = len(answer.released.text) if answer.released is not None else 0
    print_guarded(console, answer, policy.name, show_draft=asked.show_draft, told=told)


def _is_default(ctx: typer.Context, option: str) -> bool:
    source = ctx.get_parameter_source(option)
    return source is None or source.name == "DEFAULT"


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
) -> "Segmented":
    """Score each sentence of an answer whose states are still kept."""
    from guardrail.calibration.confidence import assess_segment
    from guardrail.cli.render import Segmented
    from guardrail.scoring.segments import score_segments, sentence_spans

    spans = sentence_spans(trace)
    scores = score_segments(model, trace, spans, options)
    assessments = [assess_segment(profile, one) for one in scores] if profile else []
    return Segmented(spans, scores, assessments, combine)

"""``guardrail ask``: one question, its answer, and how sure the model was."""

from typing import Annotated

import typer

from guardrail.cli.options import (
    AsJson,
    Device,
    Dtype,
    Model,
    Quantization,
    Reduction,
    SemanticToken,
    open_model,
    readable,
)
from guardrail.cli.output import print_json, progress_bar, results
from guardrail.models.reference import DEFAULT_MODEL
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions

_ANSWER = "Answer"


def ask(
    question: Annotated[
        str, typer.Argument(help="What to ask.", metavar="QUESTION", show_default=False, callback=readable)
    ],
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    system: Annotated[
        str | None,
        typer.Option(
            help="A system message before the question.", callback=readable, rich_help_panel=_ANSWER
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(help="Most tokens of the answer.", rich_help_panel=_ANSWER)
    ] = 256,
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
    reduction: Reduction = "mean",
    as_json: AsJson = False,
) -> None:
    """Ask a question. Shows where the answer's uncertainty comes from, and how large it is."""
    sampling = Sampling(max_tokens, temperature, top_p, seed, tuple(stop or ()))
    options = ScoringOptions(semantic_token=semantic_token, reduction=reduction)
    messages = [{"role": "user", "content": question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    with progress_bar() as progress:
        local = open_model(model, device, dtype, quantization, progress)
        from guardrail.scoring.records import as_record
        from guardrail.scoring.score import score

        progress("answering", 0, None)
        trace = local.generate(messages, sampling)
        progress("scoring", 0, None)
        uncertainty = score(local, trace, options)
    if as_json:
        print_json(as_record(trace, uncertainty))
        return
    from guardrail.cli.answer import print_answer

    print_answer(results(), trace, uncertainty)

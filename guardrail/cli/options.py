"""Options shared by several commands."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from guardrail.cli.output import remember_json
from guardrail.models.chat_template import parse_chat_template_kwargs
from guardrail.models.replay.transformers_internals import import_quickly

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.utils.threads import ProgressCallback

_MODEL = "Model"
_SCORE = "Uncertainty"
_ANSWERS = "Answers"


def readable(value: str | list[str] | None) -> str | list[str] | None:
    """Refuse an argument that is not valid text in the terminal's encoding."""
    try:
        "".join(value or ()).encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter("Not valid text in this terminal's encoding.") from error
    return value


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Built-in name, folder, .gguf file or hub id (owner/name, owner/name@revision).",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", metavar="DEVICE", rich_help_panel=_MODEL)
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto, float32, bfloat16, float16 or float64.", metavar="DTYPE", rich_help_panel=_MODEL
    ),
]
Quantization = Annotated[
    Literal["8bit", "4bit"] | None,
    typer.Option(help="Quantize the weights while loading (CUDA only).", rich_help_panel=_MODEL),
]
ChatTemplateKwargs = Annotated[
    str | None,
    typer.Option(
        "--chat-template-kwargs",
        help="Arguments of the model's chat template, as a JSON object: '{\"enable_thinking\": false}'.",
        metavar="JSON",
        show_default=False,
        callback=readable,
        rich_help_panel=_MODEL,
    ),
]
MaxReasoningTokens = Annotated[
    int | None,
    typer.Option(
        "--max-reasoning-tokens",
        help="Maximum reasoning tokens before the answer, for models that reason; 2048 by default.",
        show_default=False,
        rich_help_panel="Answer",
    ),
]
SemanticToken = Annotated[
    int | None,
    typer.Option(
        help="Position of the semantics-preserving token, counted from the end of the prompt (-1 is the last "
        "token). By default the known position of the model (guardrail sps --known), or else the rule for "
        "its chat template.",
        show_default=False,
        rich_help_panel=_SCORE,
    ),
]
Reduction = Annotated[
    Literal["mean", "sum"],
    typer.Option(
        help="Loss over the answer's tokens: their sum (the paper's text) or their mean (its code).",
        rich_help_panel=_SCORE,
    ),
]
QuestionBatchSize = Annotated[
    int, typer.Option(min=1, help="How many questions the model reads at once.", rich_help_panel=_MODEL)
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Take only so many lines.", show_default=False, rich_help_panel=_ANSWERS),
]
SystemMessage = Annotated[
    str | None,
    typer.Option(
        help="A system message before every conversation that has none.",
        callback=readable,
        rich_help_panel=_ANSWERS,
    ),
]
MaxTokens = Annotated[int, typer.Option(help="Most tokens of an answer.", rich_help_panel=_ANSWERS)]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead.", is_eager=True, callback=remember_json),
]


def asks_otherwise(dtype: str, quantization: str | None) -> bool:
    """Whether the model is to be opened in another form than its own, so that stored results may not fit."""
    return dtype != "auto" or quantization is not None


def open_model(
    name: str,
    device: str,
    dtype: str,
    quantization: Literal["8bit", "4bit"] | None,
    progress: "ProgressCallback",
    chat_template_kwargs: str | None = None,
) -> "LocalModel":
    """Open the model that the options name."""
    kwargs = parse_chat_template_kwargs(chat_template_kwargs)
    import_quickly("guardrail.models.local")
    from guardrail.models.loading import LoadOptions
    from guardrail.models.local import LocalModel

    options = LoadOptions(device=device, dtype=dtype, quantization=quantization)
    return LocalModel.load(name, options, progress, kwargs)

"""Heat map of a scan for the semantic token: layers by positions, with the chosen column marked."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrail.errors import OptionError
from guardrail.utils.files import whole_file

if TYPE_CHECKING:
    from guardrail.scoring.semantic_scan import Choice, Scan

__all__ = ["check_picture", "token_label", "write_heat_map"]


_FORMATS = (".png", ".svg", ".pdf")

_INK, _MARK = "#24292f", "#D55E00"
_STYLE: dict[Any, Any] = {"font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "svg.fonttype": "none"}


def write_heat_map(scan: "Scan", choice: "Choice", path: str | Path) -> None:
    """Draw a scan. Darker is higher, in a single hue that survives grey print.

    Args:
        scan: The scan.
        choice: The position to mark.
        path: A ``.png``, ``.svg`` or ``.pdf`` file.

    Raises:
        OptionError: The file cannot be written.
    """
    # Imported late: matplotlib takes as long to load as everything else in a command without a plot.
    from matplotlib import rc_context
    from matplotlib.colors import SymLogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    path = Path(path)
    layers, count = scan.scores.shape
    # SPS spans decades; on a linear scale the template's tokens would all be one pale shade.
    reach = max(float(abs(scan.scores).max()), 1e-6)
    norm = SymLogNorm(linthresh=reach / 100, vmin=min(0.0, float(scan.scores.min())), vmax=reach)
    with rc_context(_STYLE):
        picture = Figure(figsize=(1.6 + 0.62 * count, 1.9 + 0.13 * layers), layout="constrained")
        axes = picture.subplots()
        image = axes.imshow(
            scan.scores, aspect="auto", cmap="Blues", norm=norm, origin="lower", interpolation="nearest"
        )
        axes.axhline(scan.upper_half - 0.5, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.add_patch(
            Rectangle(
                (count + choice.position - 0.5, -0.5),
                1,
                layers,
                fill=False,
                edgecolor=_MARK,
                linewidth=2.2,
                clip_on=False,
            )
        )
        labels = [
            f"{position}\n{token_label(token)}\n{mean:.3g}"
            for position, token, mean in zip(scan.positions, scan.tokens, scan.upper_means, strict=True)
        ]
        axes.set_xticks(range(count), labels, fontsize=7.5)
        axes.set(xlabel="position from the end of the prompt, its token, mean SPS of the upper half")
        axes.set(ylabel="input of decoder layer (dashed: the upper half)")
        axes.set_title(
            f"{scan.model}: t* = {choice.position} ({scan.queries} queries, {scan.prompts} wordings)",
            fontsize=9.5,
            color=_MARK,
        )
        picture.colorbar(image, label="Semantic Preservation Score")
        with whole_file(path) as file:
            picture.savefig(file, format=path.suffix[1:].lower(), dpi=110)


def check_picture(path: str | Path) -> None:
    """Check the file's format before the scan, which takes minutes.

    Raises:
        OptionError: The file name has no supported format.
    """
    if Path(path).suffix.lower() not in _FORMATS:
        raise OptionError(f"{path} is not a supported image format: use .png, .svg or .pdf.")


def token_label(token: str | None) -> str:
    """A token as text: quoted, so that spaces and line breaks show; ``differs`` for None."""
    if token is None:
        return "differs"
    return token if token.startswith("<|") else repr(token)

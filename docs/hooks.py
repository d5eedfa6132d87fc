"""Hooks of the site's build: parts of the reference are generated, and nothing may load from elsewhere.

A page holds ``<!-- command line -->`` or ``<!-- policy keys -->`` where the generated part belongs.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from mkdocs.exceptions import PluginError
from typer.cli import get_docs_for_click

from guardrail.cli.main import app

Schema = Mapping[str, Any]

_SCHEMA = Path(__file__).parents[1] / "policies" / "policy.v1.schema.json"

# :class:`~guardrail.errors.OptionError` and :meth:`Guard.ask <guardrail.guard.guard.Guard.ask>`
_ROLE = re.compile(r":(?:attr|class|func|meth|mod):<code>(?:~[\w.]*\.)?([\w.]+)(?: &lt;[\w.]+&gt;)?</code>")
_ELSEWHERE = r"""["']?((?:https?:)?//[^"'\s>)]+)"""
_LOADS = (
    re.compile(rf"<(?:audio|embed|iframe|img|script|source|video)\b[^>]*?\bsrc={_ELSEWHERE}"),
    re.compile(rf"<link\b(?![^>]*\brel=[\"']?(?:canonical|next|prev))[^>]*?\bhref={_ELSEWHERE}"),
    re.compile(rf"<(?:image|use)\b[^>]*?\bhref={_ELSEWHERE}"),
    re.compile(rf"url\({_ELSEWHERE}"),
    re.compile(rf"@import\s+{_ELSEWHERE}"),
)

# What the policy itself and each of its parts is called on the page, in the order of reading.
_PARTS = {
    "": "The policy",
    "Rule": "A rule",
    "When": "Conditions",
    "Certified": "certified",
    "ShareBounds": "Bounds of a share",
    "Bounds": "Bounds of a number",
    "OnError": "on_error",
    "OnUncalibrated": "on_uncalibrated",
    "OnOutsideDomain": "on_outside_domain",
    "Target": "An escalation's target",
    "Log": "log",
    "Telemetry": "telemetry",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark by what it stands for (called by MkDocs for every page)."""
    for mark, generate in GENERATED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, generate())
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Show the references of docstrings as the bare names (called with the HTML of every page)."""
    return _ROLE.sub(r"<code>\1</code>", html)


def on_post_build(config: Mapping[str, Any], **_: Any) -> None:
    """Refuse a site that a browser would fetch something for from elsewhere (called when all is written)."""
    site = Path(config["site_dir"])
    found = [
        f"{path.relative_to(site)}: {url}"
        for path in sorted(site.rglob("*"))
        if path.suffix in {".html", ".css", ".svg"}
        for url in loads_from_elsewhere(path.read_text(encoding="utf-8"))
    ]
    if found:
        raise PluginError("The site would load from elsewhere when it is read:\n" + "\n".join(found))


def loads_from_elsewhere(text: str) -> list[str]:
    """Addresses on other hosts that HTML, CSS or SVG makes a browser fetch; links to click are none."""
    return [url for pattern in _LOADS for url in pattern.findall(text)]


def command_line() -> str:
    """Every command with its arguments and options, as Typer documents them."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="guardrail")
    # The page has a title of its own.
    return "#" + text if text.startswith("# ") else text


def policy_keys() -> str:
    """Every key of a policy with its values, its default and what it means, from the JSON schema."""
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    if missing := schema["$defs"].keys() - _PARTS:
        raise ValueError(f"The page of the policy's keys has no section for {', '.join(sorted(missing))}.")
    return "\n".join(line for name in _PARTS for line in _part(name, schema))


def _part(name: str, schema: Schema) -> Iterator[str]:
    part = schema["$defs"][name] if name else schema
    yield from (f"## {_PARTS[name]}", "", part["description"].replace("``", "`"), "")
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for key, described in part["properties"].items():
        required = key in part.get("required", ())
        default = "**required**" if required else _default(described)
        meaning = _cell(described.get("description", ""))
        yield f"| `{key}` | {_cell(_value(described))} | {default} | {meaning} |"
    yield ""


def _default(described: Schema) -> str:
    return f"`{json.dumps(described['default'])}`" if described.get("default") not in (None, "") else ""


def _value(described: Schema) -> str:
    if "anyOf" in described:
        return ", or ".join(_value(one) for one in described["anyOf"])
    if "$ref" in described:
        name = described["$ref"].rpartition("/")[2]
        return f"[{_PARTS[name]}](#{_anchor(_PARTS[name])})"
    if "enum" in described:
        return ", ".join(f"`{one}`" for one in described["enum"])
    if "const" in described:
        return f"`{json.dumps(described['const'])}`"
    if described.get("type") == "array":
        return f"list of {_value(described['items'])}"
    if isinstance(described.get("additionalProperties"), Mapping):
        names = described.get("propertyNames", {}).get("enum")
        of = f" of {', '.join(f'`{one}`' for one in names)}" if names else ""
        return f"map{of} to {_value(described['additionalProperties'])}"
    bounds = [
        f"{words} {described[bound]:g}"
        for bound, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "less than"),
        )
        if bound in described
    ]
    kind = {"object": "map", "string": "text", "integer": "whole number"}.get(
        described["type"], described["type"]
    )
    return ", ".join([kind, *bounds])


def _anchor(title: str) -> str:
    return title.lower().replace("'", "").replace(" ", "-")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


GENERATED: Mapping[str, Callable[[], str]] = {
    "<!-- command line -->": command_line,
    "<!-- policy keys -->": policy_keys,
}

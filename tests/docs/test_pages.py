"""What the documentation names exists: pages, headings, commands, options, keys of policies and verdicts."""

import importlib.util
import inspect
import json
import re
import shlex
from pathlib import Path
from pydoc import locate

import pytest
import typer
from typing_extensions import is_typeddict

from guardrail.cli.main import app
from guardrail.escalation.verdict import Verdict
from guardrail.guard.answer import GuardedAnswer
from guardrail.guard.decision_log import DecisionRecord, decision_record
from guardrail.policy.load import check_policy
from tests.support.sentences import sentence_profile

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "experiments/README.md",
]
SCHEMA = json.loads((ROOT / "policies" / "policy.v1.schema.json").read_text(encoding="utf-8"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def named(page):
    return str(page.relative_to(ROOT))


def prose(page):
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def fenced(page, language):
    return [text for kind, text in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def inline_code(page):
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.fixture(scope="module")
def hooks():
    pytest.importorskip("mkdocs", reason="the site is built with mkdocs")
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in (one or other for one, other in _LINK.findall(prose(page))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_that_the_code_cites_exists():
    sources = [path for room in ("guardrail", "demo_app", "tests") for path in (ROOT / room).rglob("*.py")]
    cited = {name for path in sources for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text("utf-8"))}
    assert "docs/explanation/method.md" in cited
    assert [name for name in cited if not (ROOT / name).exists()] == []


def commands():
    """Every command by its words, with the names of its options."""

    def walk(command, words):
        yield (
            words,
            {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"},
        )
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*words, name))

    return dict(walk(typer.main.get_command(app), ()))


COMMANDS = commands()
ALL_OPTIONS = set().union(*COMMANDS.values())


def check_command(line):
    words = shlex.split(line.replace("…", "X"), comments=True)
    assert words[0] == "guardrail"
    at = 1
    while at < len(words) and tuple(words[1 : at + 1]) in COMMANDS:
        at += 1
    command = tuple(words[1:at])
    assert command or words[1].startswith("--"), f"{line}: no such command"
    for word in words[at:]:
        if word.startswith("-") and not re.match(r"-\d", word):
            assert word.partition("=")[0] in COMMANDS[command], f"{line}: no such option"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_and_option_exists(page):
    shell = [line for text in fenced(page, "bash") for line in text.splitlines()]
    parts = [part.strip() for line in shell for part in line.split("&&")]
    for line in [*parts, *inline_code(page)]:
        if line.startswith("guardrail ") and " | " not in line:
            check_command(line)
    for code in inline_code(page):
        if code.startswith("--") and page.parent != ROOT:
            assert code.split()[0].partition("=")[0] in ALL_OPTIONS, code


def test_the_overview_of_the_command_line_names_every_command():
    text = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    for words in COMMANDS:
        if words:
            assert words[-1] in re.findall(r"[\w-]+", text), words


def policy_keys():
    properties = [SCHEMA["properties"], *(part["properties"] for part in SCHEMA["$defs"].values())]
    return {key for one in properties for key in one}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_policy_has_no_mistake_but_those_that_it_is_there_to_show(page, tmp_path):
    (tmp_path / "profiles").mkdir()
    policies = [text for text in fenced(page, "yaml") if "\nversion:" in f"\n{text}"]
    for text in policies:
        name = re.match(r"# (\S+)\n", text)
        path = tmp_path / (name[1] if name else "policy.yaml")
        # Profiles that a page only gives as an example are not there.
        there = "auto"
        if "\nstreaming: sentences" in text:
            there = str(sentence_profile(tmp_path))
        written = re.sub(r"^profile: \./.*$", f"profile: {there}", text, flags=re.MULTILINE)
        path.write_text(written, encoding="utf-8")
        assert bool(check_policy(path).mistakes) == (path.name == "broken.yaml"), path.name


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_key_of_a_policy_that_is_named_with_a_value_exists(page):
    for code in inline_code(page):
        if found := re.match(r"([a-z_]+): [^,]+$", code):
            assert found[1] in policy_keys(), code


def test_the_reference_has_every_key_of_a_policy(hooks):
    text = hooks.policy_keys()
    assert [key for key in policy_keys() if f"| `{key}` |" not in text] == []


def test_the_reference_has_every_option_of_every_command(hooks):
    text = hooks.command_line()
    assert [name for name in ALL_OPTIONS if name not in text] == []


def an_answer():
    return GuardedAnswer(
        text="Paris.",
        action="pass",
        rule="sure",
        reason="",
        message=None,
        confidence=None,
        uncertainty=None,
        guarantees=None,
        quantiles={},
        finish_reason="stop",
        usage=None,
        draft="Paris.",
        escalation=None,
        enforced=True,
        error="",
        request="1",
        model="m",
        policy_digest="",
        profile_digest=None,
        timings={},
    )


def documented(record):
    """Keys that the docstrings of a typed dictionary and its bases explain."""
    bases = [one for one in getattr(record, "__orig_bases__", ()) if is_typeddict(one)]
    own = re.findall(r"^    (\w+): ", inspect.getdoc(record), re.MULTILINE)
    return set(own).union(*map(documented, bases))


def test_the_reference_has_the_keys_of_a_verdict():
    assert an_answer().as_plain().keys() <= documented(Verdict)
    assert documented(Verdict) == Verdict.__annotations__.keys()


def test_the_reference_has_the_keys_of_the_decision_log():
    record = decision_record(an_answer(), "p", (), [{"role": "user", "content": "Where?"}], "full")
    assert record.keys() <= documented(DecisionRecord)
    assert documented(DecisionRecord) == DecisionRecord.__annotations__.keys()


@pytest.mark.parametrize("page", ["verdict.md", "decision-log.md"])
def test_the_reference_shows_every_part_of_a_record(page):
    shown = re.findall(r"^::: ([\w.]+)$", (DOCS / "reference" / page).read_text("utf-8"), re.MULTILINE)
    assert all(locate(name) for name in shown)


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        (":class:<code>~guardrail.errors.OptionError</code>", "<code>OptionError</code>"),
        (":func:<code>read_profile</code>", "<code>read_profile</code>"),
        (":meth:<code>Guard.ask &lt;guardrail.guard.guard.Guard.ask&gt;</code>", "<code>Guard.ask</code>"),
        ("the key: <code>text</code>", "the key: <code>text</code>"),
    ],
)
def test_references_of_docstrings_are_shown_as_names(hooks, html, shown):
    assert hooks.on_page_content(html) == shown


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ("<img alt=a src=//cdn.example/x.png>", ["//cdn.example/x.png"]),
        ('<link rel="stylesheet" href="https://fonts.example/css">', ["https://fonts.example/css"]),
        ("@font-face { src: url(https://fonts.example/a.woff) }", ["https://fonts.example/a.woff"]),
        ('@import "https://fonts.example/css";', ["https://fonts.example/css"]),
        ('<a href="https://arxiv.org/abs/2605.04638">the paper</a> <img src="demo/a.png">', []),
        ('<link rel="canonical" href="https://guardrail.example/">', []),
    ],
)
def test_what_a_browser_would_load_from_elsewhere_is_found(hooks, text, found):
    assert hooks.loads_from_elsewhere(text) == found

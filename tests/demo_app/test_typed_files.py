"""What a visitor types reads no file: not its keys, not its lines, and not whether it is there."""

import os

import pytest
from streamlit.testing.v1 import AppTest

from demo_app.settings import environment, known_files
from guardrail.calibration.profile import write_profile
from guardrail.policy.load import check_text
from tests.support.profiles import a_profile

TYPED = "version: 1\nname: typed\n"
RULES = "rules: [{id: default, action: abstain}]\n"
SECRET = "canary_key: canary_value\nrules: [{canary_rule: 1}]\n"


def _policy_page():
    from demo_app.views.policy import page

    page()


def shown_of(text):
    """Everything that the page shows of a text that is typed into it, and whether it may be used."""
    app = AppTest.from_function(_policy_page, default_timeout=30).run()
    app.text_area[0].set_value(text).run()
    assert not app.exception
    shown = [one.value for kind in ("text", "error", "markdown", "caption", "info") for one in app.get(kind)]
    use = next(one for one in app.button if "to chat" in one.label or "in the chat" in one.label)
    return "\n".join(map(str, shown)), not use.disabled


def said_of(text, home):
    """What is said of a text, and whether it may be used."""
    checked = check_text(text, "policy.yaml", home, environment(), known_files())
    return "\n".join(map(str, checked.mistakes + checked.warnings)), checked.policy is not None


@pytest.fixture
def started(demo, tmp_path):
    """The demo, started with a policy that has a base and a profile beside it."""
    home = tmp_path / "home"
    home.mkdir()
    write_profile(a_profile(), home / "profile.json")
    (home / "base.yaml").write_text("version: 1\nname: base\nprofile: profile.json\n" + RULES)
    (home / "started.yaml").write_text("version: 1\nname: started\nextends: base.yaml\n")
    (home / "other.yaml").write_text(SECRET)
    (home / "link.yaml").symlink_to(home / "base.yaml")
    (tmp_path / "secret.yaml").write_text(SECRET)
    demo.setenv("GUARDRAIL_DEMO_POLICY", str(home / "started.yaml"))
    return home


@pytest.mark.parametrize("key", ["extends", "profile"])
@pytest.mark.parametrize(
    "name",
    [
        "other.yaml",
        "./other.yaml",
        "../secret.yaml",
        "link.yaml",
        "nowhere.yaml",
        "/etc/passwd",
        "/dev/zero",
        "~/x",
        "started.yaml",
    ],
)
def test_no_other_file_is_read(started, key, name):
    text = TYPED + f"{key}: {name}\n" + (RULES if key == "profile" else "")
    said, is_usable = said_of(text, started)
    assert not is_usable
    assert said.startswith(f"policy.yaml:3:{len(key) + 3} {key}: cannot be named here")
    assert "\n" not in said


def test_the_page_shows_nothing_of_another_file(started):
    shown, is_usable = shown_of(TYPED + "extends: other.yaml\n")
    assert not is_usable
    assert "canary" not in shown
    assert "line 3, column 10: extends: cannot be named here" in shown


def test_of_a_file_that_is_there_as_much_is_said_as_of_one_that_is_not(started):
    names = ("other.yaml", "nowhere.yaml")
    said = [said_of(TYPED + f"extends: {name}\n", started)[0].replace(name, "X") for name in names]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "text",
    [
        "extends: base.yaml\n",
        "extends: ./home/../base.yaml\n",
        "profile: profile.json\n" + RULES,
        "extends: builtin:strict\n",
        "profile: builtin:smollm2-135m\n" + RULES,
    ],
)
def test_what_the_policy_of_the_start_names_may_be_named(started, text):
    said, is_usable = said_of(TYPED + text, started)
    assert is_usable
    # What ships certifies nothing, which is no word of what stands in a file.
    assert all("certifies nothing" in line for line in said.splitlines())


def test_the_page_takes_a_text_that_names_what_the_start_names(started):
    assert shown_of(TYPED + "extends: base.yaml\n")[1]


@pytest.mark.parametrize("key", ["model", "scorer_model"])
def test_whether_a_model_is_on_this_machine_is_not_said(started, tmp_path, key):
    os.mkdir(tmp_path / "model-there")
    said = {
        said_of(TYPED + RULES + f"{key}: {tmp_path}/{name}\n", started)[0].replace(name, "X")
        for name in ("model-there", "model-not-there")
    }
    assert said == {""}

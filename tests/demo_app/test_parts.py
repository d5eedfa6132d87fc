import re
import threading
from asyncio import CancelledError
from types import SimpleNamespace

import pytest

from demo_app.components.badges import Axis, histogram, text, token_table, tokens_html
from demo_app.model_pool import House
from demo_app.settings import plain, sentence
from guardrail.calibration.calibrators import ReferenceDistribution
from guardrail.errors import ModelReferenceError
from guardrail.guard.sentence_scores import ScoredSentence
from guardrail.scoring.uncertainty import TokenScore
from tests.support.guards import policy_of


def token(piece, weight=1.0):
    return TokenScore(text=piece, id=1, log_probability=-0.5, entropy=weight, weight=weight)


def test_text_of_a_model_is_no_html():
    assert text('<img src="x">\x1b[31m & "so"') == "&lt;img src=&quot;x&quot;&gt;�[31m &amp; &quot;so&quot;"


@pytest.mark.parametrize(
    "said", ["17\N{NO-BREAK SPACE}%", "\u3000東京", "👩\u200d🚀", "می\u200cشود", "a\n\tb"]
)
def test_spaces_of_any_width_and_joined_letters_stay_as_they_are(said):
    assert text(said) == said


def test_text_of_a_model_is_no_markdown():
    assert plain("![x](http://a.b) $y$ :red[z]") == r"\!\[x\]\(http\://a\.b\) \$y\$ \:red\[z\]"


def test_an_error_that_nobody_foresaw_is_a_sentence_without_what_was_said():
    said = sentence(KeyError("a secret"))
    assert "secret" not in said
    assert "KeyError" in said
    assert sentence(ModelReferenceError("no such folder")) == "no such folder"


def test_the_heaviest_token_is_the_reddest_and_light_ones_stay_plain():
    shown = tokens_html("Paris now", [token("Paris", 2.0), token(" now", 0.01), token("<|im_end|>", 1.0)])
    assert "rgb(235 94 66 / 0.65)" in shown
    assert "∎" in shown
    assert "im_end" not in shown
    assert shown.count('style=""') == 1


def test_the_least_sure_sentence_is_the_reddest_as_a_whole():
    tokens = [token("Yes", 9.0), token("."), token(" No"), token(".")]
    scores = (SimpleNamespace(hybridgrad=value) for value in (0.01, 0.02))
    one, other = (ScoredSentence(*span, score) for span, score in zip([(0, 2), (2, 4)], scores, strict=True))
    shown = tokens_html("Yes. No.", tokens, [one, other])
    shades = re.findall(r"rgb\(235 94 66 / ([.0-9]+)\)", shown)
    assert [float(shade) for shade in shades] == pytest.approx([0.325, 0.325, 0.65, 0.65], abs=0.01)
    assert "sentence 2: HybridGrad 0.02 a token" in shown


def test_tokens_of_an_answer_that_looks_like_html_stay_text():
    tokens = [token("<script>"), token("x")]
    assert "<script" not in tokens_html("<script>x", tokens) + token_table("<script>x", tokens)


@pytest.mark.parametrize(("value", "left"), [(1e-9, "0.0"), (1e-3, "50.0"), (5.0, "100.0")])
def test_a_score_lies_where_it_belongs_on_a_logarithmic_axis(value, left):
    among = ReferenceDistribution(n=3, values=(1e-6, 1e-3, 1.0))
    drawn = histogram("HybridGrad", value, among, Axis.of_score(among.values, ("a", "b")), "c")
    assert f'<b style="left:{left}%">' in drawn


def test_a_model_is_opened_once_however_many_ask_for_it(model_folder, one_thread):
    house, opened = House(), []
    threads = [
        threading.Thread(target=lambda: opened.append(house.model(str(model_folder)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(model) for model in opened}) == 1
    one, two = (house.guard(policy_of(), str(model_folder)) for _ in range(2))
    assert one is two


def test_who_waits_while_another_opens_a_model_hears_how_far_it_is_and_may_leave(monkeypatch):
    house, begun, goes_on, heard = House(), threading.Event(), threading.Event(), []

    def opened(name, progress):
        progress("fetching weights", 3, 10)
        begun.set()
        assert goes_on.wait(60)
        return f"the model {name}"

    def leave(*told):
        heard.append(told)
        raise CancelledError

    monkeypatch.setattr("demo_app.model_pool._opened", opened)
    monkeypatch.setattr("demo_app.model_pool._guarded", lambda policy, model: f"a guard over {model}")
    house._models["another"] = "the other model"
    opening = threading.Thread(target=house.model, args=("m",))
    opening.start()
    assert begun.wait(60)
    with pytest.raises(CancelledError):
        house.model("m", leave)
    # Also who only lacks a guard.
    with pytest.raises(CancelledError):
        house.guard(policy_of(), "another", leave)
    goes_on.set()
    opening.join()
    assert heard == [("fetching weights", 3, 10)] * 2
    assert house.model("m", leave) == "the model m"


def test_who_came_first_is_ahead():
    house, one, two = House(), object(), object()
    with house.in_line("m", one), house.in_line("m", two):
        assert (house.ahead("m", one), house.ahead("m", two), house.ahead("other", two)) == (0, 1, 0)
    assert house.ahead("m", two) == 0

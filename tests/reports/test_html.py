"""The report as one HTML file."""

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import pytest

from guardrail.calibration.held_out import HeldOut
from guardrail.errors import CalibrationError, ProfileError
from guardrail.reports.profile_display import profile_html, write_profile_html
from tests.support.report_examples import FEASIBLE, OF_KINDS, answers, calibrated, uncalibrated

EVIL = "<script>alert(1)</script>\"'&{{ 7 * 7 }}\u202e"
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """What is in a page, and whether its elements close in the order in which they open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.texts, self.open = Counter(), Counter(), [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags[tag] += 1
        for name, value in attributes:
            assert not name.startswith("on")
            if name == "id":
                self.ids[value] += 1
            if name in {"src", "href", "xlink:href", "action"}:
                self.links.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture(scope="module")
def example():
    return calibrated()


@pytest.fixture(scope="module")
def page(example):
    return Page(profile_html(*example))


def test_the_verdict_figures_thresholds_and_making_are_there(page, example):
    for expected in (
        "Of 300 held-out answers, 164 were right (55 %).",
        "AUROC 0.815 0.768 to 0.859 300 higher",
        "needs at least 149 accepted answers",
        "300 for fitting, 300 for certifying thresholds, 300 held out",
        "1000 resamples drawn by seed 0",
        "0.31 − 0.62 · log(hybridgrad)",
        "probe 0.7184 0.1993 yes",
        example.profile.digest,
    ):
        assert expected in page.text


def test_promises_for_kinds_are_told_from_those_for_their_mix():
    page = Page(profile_html(*calibrated(certified=(FEASIBLE, *OF_KINDS))))
    for expected in ("Kind Wrong at most", "their mix 10 %", "fact 10 %", "sum 10 %", "by the tag kind:NAME"):
        assert expected in page.text


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert all(link.startswith("#") for link in page.links)


def test_pictures_stand_within_the_page_and_their_ids_do_not_clash(page):
    assert page.tags["svg"] == 3
    assert [name for name, count in page.ids.items() if count > 1] == []
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


@pytest.mark.parametrize("field", ["questions", "judge", "created", "library", "generation", "candidates"])
def test_whatever_came_from_outside_is_shown_as_text(field):
    value = {"generation": {EVIL: EVIL}, "candidates": ({EVIL: EVIL},)}.get(field, EVIL)
    page = Page(profile_html(calibrated(answers(40), name=EVIL, **{field: value}).profile))
    assert page.tags["script"] == 0
    assert page.text.count("<script>alert(1)</script>\"'&{{ 7 * 7 }}�") >= 3


def test_a_reason_from_outside_is_shown_as_text():
    example = calibrated(answers(40))
    certified = (example.profile.certified[1].model_copy(update={"reason": EVIL}),)
    page = Page(profile_html(example.profile.model_copy(update={"certified": certified})))
    assert page.tags["script"] == 0
    assert "<script>alert(1)" in page.text


def test_without_the_held_out_answers_there_are_no_pictures(example):
    page = Page(profile_html(example.profile))
    assert page.tags["svg"] == 0
    assert "AUROC" in page.text


def test_other_answers_than_those_measured_are_refused(example):
    with pytest.raises(CalibrationError, match=r"measured on 300 answers \(164 right\), but 299"):
        profile_html(example.profile, answers(299))


def test_a_profile_without_labels_has_a_page_too():
    page = Page(profile_html(uncalibrated()))
    assert "made without labels" in page.text
    assert "AUROC" not in page.text
    assert "None" not in page.text


def test_a_figure_that_is_not_defined_says_why():
    held_out = answers(60)
    example = calibrated(HeldOut(held_out.scores, held_out.confidences, (True,) * 60))
    text = Page(profile_html(*example)).text
    assert "Not given: all 60 answers are right, so there is nothing to tell apart." in text
    assert "nan" not in text.lower().split()


def test_a_report_is_written_whole_and_the_same_every_time(tmp_path):
    example = calibrated(answers(40))
    path = tmp_path / "report.html"
    write_profile_html(example.profile, path, example.held_out)
    assert path.read_text("utf-8") == profile_html(*example)
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_cannot_be_written_says_where(tmp_path, example):
    with pytest.raises(ProfileError, match=r"nowhere.report\.html cannot be written: No such file"):
        write_profile_html(example.profile, tmp_path / "nowhere" / "report.html")


def test_matplotlib_is_loaded_only_to_draw():
    program = "import sys, guardrail.reports.profile_display; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"

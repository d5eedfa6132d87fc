"""One answer on a page: its progress while it is generated, then its text, badge and the reasons for it."""

from collections.abc import Iterator, Sequence
from math import exp
from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from demo_app.components.badges import (
    LOOKS,
    Axis,
    badge_html,
    histogram,
    icon,
    text,
    token_table,
    tokens_html,
)
from demo_app.model_pool import Asking
from demo_app.session import state
from demo_app.settings import plain
from guardrail.policy.decide import explain
from guardrail.policy.model import SENTENCES
from guardrail.reports.formatting import counted, percent

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from guardrail import GuardedAnswer, Policy, Profile, Uncertainty

__all__ = ["follow", "plain_text", "show_answer", "why_html"]


_OUTCOMES = {"true": "check", "false": "close", "unknown": "question_mark"}


def why_html(
    answer: "GuardedAnswer", policy: "Policy", profile: "Profile | None", *, revealed: bool = False
) -> str:
    """The folded "Why?" panel: everything that led to the badge.

    Args:
        answer: The answer.
        policy: The policy that decided.
        profile: The profile it used, if any.
        revealed: Whether the visitor revealed a withheld draft; its tokens are hidden otherwise.
    """
    parts = [_rule(answer, policy)]
    if answer.uncertainty is not None:
        parts.append(_scores(answer.uncertainty))
        parts += _places(answer, profile)
        parts.append(_tokens(answer, answer.uncertainty, revealed=revealed))
    parts.append(_circumstances(answer, policy))
    return f'<details><summary>Why?</summary><div class="gr-why">{"".join(parts)}</div></details>'


def _rule(answer: "GuardedAnswer", policy: "Policy") -> str:
    rule = f"rule <b>{text(answer.rule)}</b> of policy <b>{text(policy.name)}</b>"
    said = f"<h4>The rule</h4><p>{LOOKS[answer.action].word} by {rule}: {text(answer.reason)}.</p>"
    if answer.error and answer.error not in answer.reason:
        said += f"<p>{text(answer.error)}</p>"
    return said + _tried(answer, policy)


def _tried(answer: "GuardedAnswer", policy: "Policy") -> str:
    """The rules in order, up to the one that decided."""
    rows = []
    for one in explain(policy, answer.evidence):
        held = ' class="gr-held"' if one.outcome == "true" else ""
        rows.append(
            f"<li{held}>{icon(_OUTCOMES[one.outcome])}"
            f"<span><b>{text(one.rule)}</b>: {text(one.why)}</span></li>"
        )
        if one.rule == answer.rule or one.outcome != "false":
            break
    return f"<ol>{''.join(rows)}</ol>" if len(rows) > 1 else ""


def _scores(value: "Uncertainty") -> str:
    certain = exp(-value.mean_entropy)
    rows = (
        ("<b>HybridGrad</b>", f"<b>{value.hybridgrad:.3g}</b>", "combined score"),
        (
            "SemGrad",
            f"{value.semgrad:.3g} × {1 - certain:.2f}",
            "sensitivity to the question’s meaning",
        ),
        (
            "ParaGrad",
            f"{value.paragrad:.3g} × {certain:.2f}",
            "sensitivity to the model’s weights",
        ),
        ("Mean entropy", f"{value.mean_entropy:.3g} nats", "0 = no hesitation between words"),
    )
    cells = "".join(
        f'<tr><td>{name}</td><td class="gr-num">{number}</td><td class="gr-soft">{words}</td></tr>'
        for name, number, words in rows
    )
    table = f"<table><tbody>{cells}</tbody></table>"
    return f'<h4>Uncertainty scores (higher = less sure)</h4><div class="gr-scroll">{table}</div>'


def _places(answer: "GuardedAnswer", profile: "Profile | None") -> Iterator[str]:
    """Where the answer lies among the calibration answers, if this profile was used for it."""
    is_of_profile = profile is not None and profile.digest == answer.profile_digest
    if profile is None or not is_of_profile or answer.uncertainty is None or answer.outside_domain:
        return
    plots = []
    if among := profile.reference.get("hybridgrad"):
        value = answer.uncertainty.hybridgrad
        caption = f"less sure than {percent(among.quantile_of(value))} of the {among.n:,} calibration answers"
        axis = Axis.of_score(among.values, ("surer", "less sure"))
        plots.append(histogram(f"HybridGrad {value:.3g}", value, among, axis, caption))
    if answer.confidence is not None and (among := profile.reference.get("confidence")):
        caption = f"surer than {percent(among.quantile_of(answer.confidence))} of them"
        axis = Axis(0.0, 1.0, ("0 % likely right", "100 %"))
        plots.append(
            histogram(f"Confidence {percent(answer.confidence)}", answer.confidence, among, axis, caption)
        )
    if plots:
        yield f'<h4>Compared with the calibration answers</h4><div class="gr-plots">{"".join(plots)}</div>'


def _tokens(answer: "GuardedAnswer", value: "Uncertainty", *, revealed: bool) -> str:
    scale = "darker = less sure, by sentence" if answer.sentences else "darker = more"
    title = f"<h4>Where the model hesitated ({scale})</h4>"
    if answer.is_withheld and not revealed:
        return f'{title}<p class="gr-soft">The draft is hidden; its words are shown once you reveal it.</p>'
    draft = answer.draft or ""
    shaded = tokens_html(draft, value.tokens, answer.sentences)
    return f"{title}{shaded}{token_table(draft, value.tokens)}"


def _circumstances(answer: "GuardedAnswer", policy: "Policy") -> str:
    times, rows = answer.timings, []
    if "answer_s" in times:
        guard = sum(times.get(stage, 0.0) for stage in ("score_s", "judge_s"))
        share = f" ({percent(guard / times['answer_s'])} more)" if times["answer_s"] > 0 else ""
        rows.append(f"{times['answer_s']:.2f} s to answer, {guard:.2f} s for the guard{share}")
        if answer.sentences:
            rows.append(f"{times.get('sentences_s', 0.0):.2f} s for its sentences")
    if answer.usage is not None:
        cut = ", cut off" if answer.finish_reason == "length" else ""
        rows.append(f"{answer.usage.completion_tokens:,} tokens{cut}")
    if answer.turns_left_out:
        turns = "1 earlier turn" if answer.turns_left_out == 1 else f"{answer.turns_left_out} earlier turns"
        rows.append(f"asked without {turns} that had been withheld")
    rows.append(f"model {answer.answered_by or answer.model}")
    if answer.answered_by not in ("", answer.model):
        rows.append(f"scored by {answer.model}")
    rows.append(f"policy {policy.name} {answer.policy_digest[:8]}")
    rows.append(f"profile {answer.profile_digest[:8]}" if answer.profile_digest else "no profile")
    if answer.familiar == "unlike":
        rows.append("the questions so far are unlike those of the profile: its confidence may be far off")
    if answer.uncertified:
        rows.append(f"nothing is certified: {answer.uncertified}")
    if answer.escalation is not None:
        rows += [
            f"escalated to {one.target}: {one.error or one.outcome}" for one in answer.escalation.attempts
        ]
    return f'<h4>Details</h4><p class="gr-soft">{text(" · ".join(rows))}</p>'


def show_answer(
    answer: "GuardedAnswer", policy: "Policy", profile: "Profile | None", revealed: set[str]
) -> None:
    """Show what the policy allows, the badge and the reasons; a withheld draft only when revealed.

    Args:
        answer: The answer.
        policy: The policy that decided.
        profile: The profile in use.
        revealed: Request ids whose drafts the visitor revealed; the button changes it.
    """
    is_revealed = answer.request in revealed
    why = why_html(answer, policy, profile, revealed=is_revealed)
    draft = _draft(answer) if is_revealed else ""
    st.html(
        f'<div class="gr gr-{answer.action}" data-action="{answer.action}">'
        f'<div class="gr-text">{text(answer.text)}</div>{_note(answer)}{badge_html(answer)}{draft}{why}</div>'
    )
    if answer.is_withheld and answer.draft:
        label = "Hide the draft" if is_revealed else "Reveal the hidden draft"
        symbol = ":material/visibility_off:" if is_revealed else ":material/visibility:"
        change = revealed.discard if is_revealed else revealed.add
        st.button(
            label,
            key=f"reveal-{answer.request}",
            icon=symbol,
            type="tertiary",
            on_click=change,
            args=(answer.request,),
        )


def plain_text(value: str) -> None:
    """Show a text without interpreting it."""
    st.html(f'<div class="gr gr-text">{text(value)}</div>')


def _note(answer: "GuardedAnswer") -> str:
    escalation = answer.escalation
    said = []
    if answer.message is not None and answer.message != answer.text:
        said.append(text(answer.message))
    if escalation is not None and escalation.source is not None:
        said.append(f"Answered by {text(escalation.source)}.")
    if escalation is not None and escalation.ticket is not None:
        said.append(f"Waiting for review → open the Review page ({text(escalation.ticket[:8])}).")
    return f'<div class="gr-note">{" ".join(said)}</div>' if said else ""


def _draft(answer: "GuardedAnswer") -> str:
    return (
        f'<div class="gr-draft"><b>{icon("visibility")} Hidden draft (not approved by the policy)</b>'
        f'<div class="gr-text">{text(answer.draft or "")}</div></div>'
    )


_SECONDS_BETWEEN_LOOKS = 0.15


class _Sight(NamedTuple):
    """What is visible of an answer in progress.

    Attributes:
        heard: The draft so far, where the policy shows it.
        words: The current stage in words.
        share: Share of the stage that is done, if known.
    """

    heard: str
    words: str
    share: float | None


def follow(placed: "Sequence[tuple[Asking, DeltaGenerator]]") -> None:
    """Show the progress of several answers, each in its place, until all are done.

    A click interrupts the run of the page at the next update; the answers continue.
    """
    seen: list[_Sight | None] = [None for _ in placed]
    while any(asking.stage != "done" for asking, _ in placed):
        # Streamlit interrupts a run where it reads state or draws.
        state()
        for number, (asking, place) in enumerate(placed):
            if asking.wait(_SECONDS_BETWEEN_LOOKS):
                continue
            sight = _sight(asking)
            # Redraw only what changed: the browser competes with the model for the same cores.
            if sight != seen[number]:
                seen[number] = sight
                with place.container():
                    _show(sight)


def _sight(asking: Asking) -> _Sight:
    loading = asking.loading
    share = min(1.0, loading.done / loading.total) if asking.stage == "opening" and loading.total else None
    return _Sight(asking.heard, _words(asking), share)


def _show(sight: _Sight) -> None:
    if sight.heard:
        plain_text(sight.heard)
    if sight.share is not None:
        st.progress(sight.share, text=f"{sight.words}…")
    else:
        st.caption(f":material/hourglass_top: {sight.words}…")


def _words(asking: Asking) -> str:
    if asking.stage == "opening":
        return _capital(asking.loading.words)
    ahead = asking.ahead
    if asking.stage == "waiting" and ahead:
        return f"Waiting: {ahead} {'question' if ahead == 1 else 'questions'} ahead of yours"
    if asking.stage == "waiting":
        return "Reading the question"
    words = f"Writing ({counted(asking.tokens, 'token')} so far)"
    if asking.policy.streaming == SENTENCES:
        return f"{words}. Each sentence is shown once it has been checked"
    is_live = asking.policy.streaming == "annotate"
    return words if is_live else f"{words}. You will see it once it has been checked"


def _capital(words: str) -> str:
    return plain(words[:1].upper() + words[1:])

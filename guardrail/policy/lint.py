"""Consistency of a policy: between its parts, and with its profile."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from guardrail.errors import ProfileError
from guardrail.policy.answer_boxes import Budget
from guardrail.policy.conditions import (
    NO_ESCALATION,
    NO_PROFILE_OF_SENTENCES,
    OF_WHOLE_ANSWERS,
    QUANTILES,
    Certified,
)
from guardrail.policy.document import Mistake, Node, step
from guardrail.policy.messages import names_ticket
from guardrail.policy.model import ABSTAIN, KINDS, SENTENCES
from guardrail.policy.reachability import check_reach, conditions_of, rules_of
from guardrail.policy.yaml_document import BUILTIN
from guardrail.utils.text import did_you_mean

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile

__all__ = ["AUTO", "UNKNOWN_FILE", "Profiled", "check_ids", "check_profile", "check_soundness"]


_FALLBACKS = ("on_error", "on_uncalibrated", "on_outside_domain")
# These decide where something is unknown, and default to abstain.
_UNKNOWNS = _FALLBACKS[1:]
_WITHHOLDING = ("abstain", "escalate")
# A circle is named up to this length.
_LONGEST_PATH = 20


def check_ids(root: Node) -> Iterator[Mistake]:
    """Duplicate ids of rules in a file, and ids reserved for other decisions."""
    seen: dict[str, Node] = {}
    for rule in rules_of(root):
        node = rule.get("id")
        if node is None or node.text is None:
            continue
        if node.text in seen:
            line = seen[node.text].place.line
            yield node.mistake(f"duplicate id {node.text!r}; the rule in line {line} already has it")
        elif node.text in _FALLBACKS:
            yield node.mistake(f"{node.text!r} is reserved for decisions by {node.text}; choose another id")
        seen.setdefault(node.text, node)


def check_soundness(root: Node, budget: Budget | None = None) -> tuple[list[Mistake], list[Mistake]]:
    """Mistakes and warnings about the policy as a whole.

    Args:
        root: The policy's values.
        budget: Shared budget of :func:`check_reach`.
    """
    wrong, unclaimed = check_reach(root, budget)
    mistakes = [
        *wrong,
        *_check_outcomes(root),
        *_check_targets(root),
        *_check_streaming(root),
        *_check_sentences(root),
    ]
    return mistakes, [*unclaimed, *_unused_targets(root), *_never_tickets(root), *_annotated_errors(root)]


def _check_outcomes(root: Node) -> Iterator[Mistake]:
    targets = _targets(root)
    for outcome in _outcomes(root):
        action, to, message = outcome.get("action"), outcome.get("to"), outcome.get("message")
        escalates = (action or outcome).text == "escalate"
        if to is None:
            if escalates:
                how = "to: NAME" if outcome.entries else f"{outcome.path}: {{action: escalate, to: NAME}}"
                known = " or ".join(name for name in targets if name != ABSTAIN) or "none yet"
                text = f"is missing: escalate needs a target under escalation ({known}); write {how}"
                yield Mistake(outcome.place, step(outcome.path, "to"), text)
        elif not escalates:
            other = action.text if action else "another"
            yield to.mistake(f"is only for action: escalate, but the action is {other}; remove it")
        elif to.text is not None and to.text not in targets:
            near = did_you_mean(to.text, targets)
            yield to.mistake(f"is {to.text!r}, but there is no such target under escalation{near}")
        if message is not None and action is not None and action.text == "pass":
            yield message.mistake("is never shown with pass; use flag, or remove it")
        elif message is not None and not escalates and names_ticket(message.text or ""):
            yield message.mistake("has a {ticket}, which exists only with action: escalate; remove it")


def _check_targets(root: Node) -> Iterator[Mistake]:
    targets = _targets(root)
    circles = _in_circles(targets)
    escalation = root.get("escalation")
    for name, entry in (escalation.entries if escalation else {}).items():
        target = entry.node
        if name == ABSTAIN:
            yield Mistake(entry.key, target.path, f"{ABSTAIN!r} is reserved; on_error uses it to end a chain")
        kinds = [kind for kind in KINDS if kind in target.entries]
        if isinstance(target.value, Mapping) and len(kinds) != 1:
            has = " and ".join(kinds) or "none"
            yield target.mistake(f"needs exactly one of {', '.join(KINDS)}, but has {has}")
        arguments = target.get("arguments")
        if arguments is not None and arguments.entries and kinds and "chat_model" not in kinds:
            yield arguments.mistake(f"are only for a chat_model, but this is a {kinds[0]}; remove them")
        after = target.get("on_error")
        if after is None or after.text is None or after.text == ABSTAIN:
            continue
        if after.text not in targets:
            near = did_you_mean(after.text, [ABSTAIN, *targets])
            yield after.mistake(f"is {after.text!r}, but there is no such target{near}")
        elif name in circles:
            path = " to ".join(_path_after(name, targets))
            yield after.mistake(f"is circular: {path}; end it with abstain")


def _check_streaming(root: Node) -> Iterator[Mistake]:
    streaming, mode = root.get("streaming"), root.get("mode")
    if streaming is None or streaming.text != "annotate" or (mode and mode.text == "observe"):
        return
    why = "streaming: annotate shows tokens before the verdict, so nothing can be withheld; use buffer"
    for outcome in _outcomes(root):
        action = outcome.get("action") or outcome
        # An answer that could not be scored is withdrawn afterwards; there is a warning for that.
        if action.text in _WITHHOLDING and outcome.path != "on_error":
            yield action.mistake(f"is {action.text}, and {why}, or pass or flag here")
    for key in _UNKNOWNS:
        given = root.get(key)
        if given is None or (given.entries and "action" not in given.entries):
            node = given or streaming
            yield node.mistake(f"{key} defaults to abstain, and {why}, or set it to flag")


def _by_sentences(root: Node) -> Node | None:
    streaming = root.get("streaming")
    return streaming if streaming is not None and streaming.text == SENTENCES else None


def _check_sentences(root: Node) -> Iterator[Mistake]:
    streaming = _by_sentences(root)
    if streaming is None:
        return
    for when in conditions_of(root):
        for name, why in OF_WHOLE_ANSWERS.items():
            key, _, score = name.partition(".")
            condition = when.get(key)
            if condition is not None and score:
                condition = condition.get(score)
            if condition is not None:
                yield condition.mistake(f"is no condition for streaming: sentences: {why}; remove it")
    for outcome in _outcomes(root):
        action = outcome.get("action") or outcome
        if action.text == "escalate":
            yield action.mistake(f"is escalate, but streaming: sentences {NO_ESCALATION}")
    profile = root.get("profile")
    if profile is None or profile.text in (AUTO, ""):
        yield streaming.mistake(f"is sentences, which {NO_PROFILE_OF_SENTENCES}")


def _annotated_errors(root: Node) -> Iterator[Mistake]:
    streaming, mode = root.get("streaming"), root.get("mode")
    if streaming and streaming.text == "annotate" and not (mode and mode.text == "observe"):
        yield streaming.mistake("an answer that cannot be scored is withdrawn only after it was seen")


def _unused_targets(root: Node) -> Iterator[Mistake]:
    targets = _targets(root)
    used = {to.text for outcome in _outcomes(root) if (to := outcome.get("to"))}
    used |= {after.text for target in targets.values() if (after := target.get("on_error"))}
    for name, target in targets.items():
        if name not in used:
            yield target.mistake("nothing escalates to this target")


def _never_tickets(root: Node) -> Iterator[Mistake]:
    targets = _targets(root)
    for outcome in _outcomes(root):
        to, message = outcome.get("to"), outcome.get("message")
        if to is None or to.text not in targets or message is None or not names_ticket(message.text or ""):
            continue
        way = dict.fromkeys([to.text, *_path_after(to.text, targets)])
        if not any("queue" in targets[name].entries for name in way):
            said = "has a {ticket}, but no target that it escalates to is a queue: it will read 'unknown'"
            yield message.mistake(said)


def _path_after(name: str, targets: dict[str, Node]) -> list[str]:
    """The targets tried one after the other when each fails, until one repeats."""
    path = [name]
    while (after := _after(path[-1], targets)) is not None and len(path) <= _LONGEST_PATH:
        path.append(after)
        if after == name:
            break
    return path


def _in_circles(targets: dict[str, Node]) -> set[str]:
    """The targets whose chain of fallbacks leads back to them."""
    circles, done = set[str](), set[str]()
    for name in targets:
        path: dict[str, int] = {}
        one: str | None = name
        while one is not None and one not in done:
            if one in path:
                circles.update(list(path)[path[one] :])
                break
            path[one] = len(path)
            one = _after(one, targets)
        done.update(path)
    return circles


def _after(name: str, targets: dict[str, Node]) -> str | None:
    """The target tried when another fails, if there is one."""
    after = targets[name].get("on_error")
    return after.text if after is not None and after.text in targets else None


def _outcomes(root: Node) -> Iterator[Node]:
    yield from rules_of(root)
    yield from (node for name in _FALLBACKS if (node := root.get(name)))


def _targets(root: Node) -> dict[str, Node]:
    escalation = root.get("escalation")
    return {name: entry.node for name, entry in escalation.entries.items()} if escalation else {}


AUTO = "auto"
_NOT_ONES_OWN = (
    "never holds: the profile is a general one, not of your own questions, and certifies nothing; name one "
    "of yours as profile, which guardrail calibrate makes"
)
_NEVER_FAMILIAR = (
    "the profile keeps no states to compare the questions with; make it again with guardrail calibrate, of "
    "about 100 answers or more to different questions"
)
UNKNOWN_FILE = "cannot be named here; name a file with builtin:, or start from a policy that names this one"


@dataclass(slots=True)
class Profiled:
    """The profile of a policy, and what is wrong with it.

    Attributes:
        path: Its path; None if it depends on the model in use or is unknown.
        mistakes: What is wrong with it, or with what rules ask of it.
        warnings: What depends on its data.
    """

    path: Path | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)


def check_profile(
    root: Node, folders: Mapping[str, Path], as_named: Callable[[Path], Path | None] = lambda file: file
) -> Profiled:
    """Find the profile and compare it with the rules.

    Args:
        root: The policy's values.
        folders: The folder of each file that they come from.
        as_named: Returns the path to read for a named file, or None if the policy may not name it.
    """
    found = Profiled()
    node, model = root.get("profile"), root.get("model")
    is_auto = node is None or node.text in (AUTO, "")
    if is_auto:
        found.warnings += [one.mistake(_NOT_ONES_OWN) for one in _certified_conditions(root)]
    if is_auto and not (model and model.text):
        return found
    # Imported late: most policies leave the profile to the model, and its classes are slow to build.
    from guardrail.calibration.held_out import builtin_profiles

    if node is None or is_auto:
        of_model = builtin_profiles().get(model.text) if model and model.text else None
        if of_model is not None:
            _compare(root, node or root, of_model, found, is_auto=True)
        return found
    if node.text is None:
        return found
    if node.text.startswith(BUILTIN):
        name, shipped = node.text.removeprefix(BUILTIN), builtin_profiles()
        if name not in shipped:
            found.mistakes.append(node.mistake(f"no profile ships for {name!r}{did_you_mean(name, shipped)}"))
            return found
        found.path = shipped[name]
    else:
        named = as_named(folders[node.place.file] / node.text)
        if named is None:
            found.mistakes.append(node.mistake(UNKNOWN_FILE))
            return found
        found.path = named
    _compare(root, node, found.path, found)
    return found


def _certified_conditions(root: Node) -> list[Node]:
    return [certified for when in conditions_of(root) if (certified := when.get("certified")) is not None]


def _compare(root: Node, node: Node, path: Path, found: Profiled, *, is_auto: bool = False) -> None:
    from guardrail.calibration.domain import Unit, wrong_unit
    from guardrail.calibration.held_out import builtin_profiles
    from guardrail.calibration.profile import read_profile

    try:
        profile = read_profile(path)
    except (ProfileError, ValueError) as error:
        found.mistakes.append(node.mistake(str(error)))
        return
    unit: Unit = "answer" if _by_sentences(root) is None else "sentence"
    if profile.unit != unit and not is_auto:
        found.mistakes.append(node.mistake(wrong_unit(profile.unit)))
        return
    for when in conditions_of(root):
        confidence, certified, quantile = when.get("confidence"), when.get("certified"), when.get("quantile")
        if confidence is not None and not profile.is_calibrated:
            said = "the profile was made without labels and has no confidence: on_uncalibrated decides"
            found.warnings.append(confidence.mistake(said))
        for name, entry in (quantile.entries if quantile else {}).items():
            if name in QUANTILES and name not in profile.reference:
                said = f"the profile has no reference answers for {name!r}"
                found.mistakes.append(entry.node.mistake(said + did_you_mean(name, profile.reference)))
        if (familiar := when.get("familiar")) is not None and profile.states is None:
            found.warnings.append(familiar.mistake(f"is never known: {_NEVER_FAMILIAR}"))
        if certified is None or is_auto:
            continue
        if profile.is_general or path in builtin_profiles().values():
            found.warnings.append(certified.mistake(_NOT_ONES_OWN))
        else:
            _compare_guarantee(certified, profile, found)


def _compare_guarantee(node: Node, profile: "Profile", found: Profiled) -> None:
    from guardrail.calibration.profile import Guarantee

    try:
        wanted = Guarantee(*Certified.model_validate(node.plain()).model_dump().values())
    except ValidationError:
        return
    threshold = profile.certified_for(wanted)
    if threshold is None:
        has = "; ".join(dict.fromkeys(str(one.guarantee) for one in profile.certified)) or "none"
        found.mistakes.append(
            node.mistake(
                f"the profile has no threshold for this guarantee; it has {has}. Make the profile again with "
                f"guardrail calibrate --target-error {wanted.max_error:g} --confidence {wanted.confidence:g}"
            )
        )
        return
    kinds = profile.kinds_certified_for(wanted)
    if threshold.threshold is None and not kinds:
        said = f"never holds: the guarantee is infeasible with this profile ({threshold.reason})"
        found.warnings.append(node.mistake(said))
    elif profile.states is None:
        found.warnings.append(node.mistake(f"never holds: {_NEVER_FAMILIAR}"))
    elif threshold.threshold is None:
        listed = ", ".join(f"kind:{kind}" for kind in kinds)
        said = f"holds for requests with the tag {listed} alone: for others, {threshold.reason}"
        found.warnings.append(node.mistake(said))

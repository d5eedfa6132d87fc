"""The methods that names stand for."""

import re
from collections.abc import Mapping, Sequence

from guardrail.errors import OptionError
from guardrail.evaluation.methods.method import Method
from guardrail.evaluation.methods.one_pass import (
    GRADIENTS,
    ablations,
    gradient_method,
    one_pass_methods,
)
from guardrail.utils.nearest import did_you_mean

__all__ = ["CONFIDENCE", "GROUPS", "methods_named"]

GROUPS = ("one_pass", "ablations", "sampling", "all")
# The confidence of a profile, which is a method where a profile is given.
CONFIDENCE = "confidence"
# Commas, but for those within brackets.
_BETWEEN = re.compile(r",(?![^\[]*\])")
_WITH_ARGUMENTS = re.compile(r"(\w+)\[(.*)\]")


def methods_named(
    names: Sequence[str],
    sampled: Mapping[str, Method],
    confidence: Method | None = None,
    token: int | None = None,
) -> tuple[Method, ...]:
    """The methods that a user asked for, each once, in the order asked for.

    Args:
        names: Names of methods or groups (``one_pass``, ``ablations``, ``sampling``, ``all``); one text may
            hold several, with commas between.
        sampled: The methods that need samples or further questions.
        confidence: A profile's confidence, where there is one: it is then among the methods in any case.
        token: t* of gradients that name none; None for the rule of the model's chat template.

    Raises:
        OptionError: There is no such method, or an argument of it is wrong.
    """
    found: dict[str, Method] = {} if confidence is None else {confidence.name: confidence}
    for given in names:
        for name in _BETWEEN.split(given):
            for method in _found(name.strip(), sampled, confidence, token):
                found.setdefault(method.name, method)
    if not found:
        raise OptionError("No method was named: give some with --methods.")
    return tuple(found.values())


def _found(
    name: str, sampled: Mapping[str, Method], confidence: Method | None, token: int | None
) -> Sequence[Method]:
    one_pass, changed = one_pass_methods(token), ablations(token)
    unchanged = {name: one_pass[name] for name in ("hybridgrad", "semgrad", "paragrad")}
    groups: dict[str, Mapping[str, Method]] = {
        "one_pass": one_pass,
        "ablations": {**unchanged, **changed},
        "sampling": sampled,
        "all": {**one_pass, **changed, **sampled},
    }
    if name in groups:
        return list(groups[name].values())
    if name in groups["all"]:
        return [groups["all"][name]]
    if name == CONFIDENCE and confidence is None:
        raise OptionError("confidence is a profile's: name the profile with --profile.")
    if name == CONFIDENCE:
        return []
    if match := _WITH_ARGUMENTS.fullmatch(name):
        if match[1] in GRADIENTS:
            return [gradient_method(match[1], _arguments(name, match[2]), token)]
        if match[1] in groups["all"]:
            raise OptionError(f"{match[1]} takes no arguments; {' and '.join(GRADIENTS)} do.")
    known = [*GROUPS, CONFIDENCE, *one_pass, *sampled]
    near = did_you_mean(name.partition("[")[0], known)
    raise OptionError(f"There is no method {name!r}{near or '.'} Methods and groups: {', '.join(known)}.")


def _arguments(name: str, text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not mark for _, mark, _ in pairs):
        raise OptionError(
            f"The arguments of {name!r} are name=value, with commas between, such as "
            "hybridgrad[semantic_token=-1,reduction=mean]."
        )
    return {key.strip(): value.strip() for key, _, value in pairs}

"""Who gave an answer: what the call says of its model, and what the user declared.

A model within a chain is somebody else than the one that scores its answers, whatever it is called: a profile
holds for it only if it is declared to be the profile's, and if nothing that the call says contradicts that.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import OptionError
from guardrail.labelling.provenance import Author, name_problem, same_name

if TYPE_CHECKING:
    from guardrail.escalation.verdict import Verdict
    from guardrail.guard.guard import Guard
    from guardrail.langchain.model_calls import ModelCall

__all__ = ["UNSEEN", "AnsweredBy", "ReportedModel", "author_of_call", "checked_declaration", "reported_model"]

# A name for all models of a chain, or of each by what it calls itself.
AnsweredBy = str | Mapping[str, str]

# What answers and requests call the name of a model.
_KEYS = ("model_name", "model", "model_id")
_LONGEST = 80
# A dated release of a model, which a request may name without the date.
_RELEASE = re.compile(r"(.+?)(-\d{4}-\d\d-\d\d|-\d{8}|-\d{6}|-\d{4}|:latest)")
_NOBODY_SAID = "nobody declared it to be of the profile's model (answered_by)"
UNSEEN = Author("a model that was not seen", _NOBODY_SAID)


class ReportedModel(NamedTuple):
    """What a call says of its model.

    Attributes:
        names: What the answer and the request call it, each name once.
        kind: The class of LangChain's that called it; empty where that is not known.
    """

    names: tuple[str, ...] = ()
    kind: str = ""

    @property
    def shown(self) -> str:
        """What to call it before people."""
        return self.names[0] if self.names else self.kind or UNSEEN.name

    def with_answer(self, *metadata: Mapping[str, Any] | None) -> "ReportedModel":
        """The same with what the answer says: that goes before what was asked for."""
        return self._replace(names=_once([*_names(*metadata), *self.names]))


def reported_model(serialized: Any, metadata: Any, parameters: Any) -> ReportedModel:
    """Read what LangChain tells of a model when it is called.

    Args:
        serialized: The model, as its callbacks are told of it.
        metadata: Of the run.
        parameters: What the model is called with.
    """
    told = serialized if isinstance(serialized, Mapping) else {}
    path = told.get("id")
    kind = path[-1] if isinstance(path, list) and path else told.get("name")
    of_run = metadata.get("ls_model_name") if isinstance(metadata, Mapping) else None
    names = [*([of_run] if isinstance(of_run, str) else []), *_names(parameters)]
    return ReportedModel(_once(names), _clean(kind) if isinstance(kind, str) else "")


def checked_declaration(answered_by: AnsweredBy | None) -> AnsweredBy | None:
    """Give back a declaration that names models.

    Raises:
        OptionError: It does not.
    """
    if answered_by is None:
        return None
    names = (
        [*answered_by.keys(), *answered_by.values()] if isinstance(answered_by, Mapping) else [answered_by]
    )
    for name in names:
        if problem := name_problem(name):
            raise OptionError(f"answered_by {problem}.")
    return answered_by


def author_of_call(call: "ModelCall", guard: "Guard", declared: AnsweredBy | None) -> Author | None:
    """Who gave an answer; None for the guard's own model.

    Args:
        call: The call.
        guard: What decides on the answer.
        declared: What the user says of it.
    """
    if call.verdict is not None and _is_own(call.verdict, guard):
        return None
    model = call.model
    if declared is None:
        return Author(model.shown, _NOBODY_SAID)
    if isinstance(declared, str):
        other = next((name for name in model.names if not _is_release(name, declared)), None)
        if other is None:
            return Author(declared)
        return Author(other, f"it was declared to be of {declared}, and its own metadata names another")
    found = {_looked_up(name, declared) for name in model.names or [model.kind]}
    name = found.pop() if len(found) == 1 else None
    return Author(model.shown, _NOBODY_SAID) if name is None else Author(name)


def _is_own(verdict: "Verdict", guard: "Guard") -> bool:
    """Whether a verdict of this process says that the guard's model gave the answer, under its profile."""
    escalation = verdict.get("escalation")
    if verdict.get("outside_domain") or verdict.get("answered_by") != verdict.get("model"):
        return False
    if isinstance(escalation, Mapping) and escalation.get("source"):
        return False
    if guard.profile_digest is not None:
        # Somebody made sure of its weights.
        return bool(verdict.get("profile") == guard.profile_digest)
    return same_name(str(verdict.get("model")), guard.model.name)


def _looked_up(name: str, declared: Mapping[str, str]) -> str | None:
    """Who a model is by a map of names; a name that is a value of it stands for itself."""
    for called, author in declared.items():
        if same_name(called, name):
            return author
    return next((author for author in declared.values() if _is_release(name, author)), None)


def _is_release(name: str, other: str) -> bool:
    """Whether two names are one, or one is a dated release of the other."""
    if same_name(name, other):
        return True
    pairs = ((name, other), (other, name))
    return any(
        (found := _RELEASE.fullmatch(long.strip())) is not None and same_name(found[1], short)
        for long, short in pairs
    )


def _names(*sources: Any) -> Iterator[str]:
    for source in sources:
        if isinstance(source, Mapping):
            yield from (source[key] for key in _KEYS if isinstance(source.get(key), str))


def _once(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clean for name in names if (clean := _clean(name))))


def _clean(name: str) -> str:
    """A name that can be shown in one line."""
    printable = "".join(character if character.isprintable() else " " for character in name[:400])
    return " ".join(printable.split())[:_LONGEST]

"""Opening what a chat model stands on: one set of weights for all chat models that name the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from langchain_core.language_models import BaseChatModel

from guardrail.escalation.queue import HumanQueue
from guardrail.langchain._internals import identity_of
from guardrail.models.reference import DEFAULT_MODEL, ModelReference
from guardrail.policy.loading import load_policy
from guardrail.policy.model import Policy
from guardrail.utils.fork import ForkSafeLock

if TYPE_CHECKING:
    from langchain_core.language_models.model_profile import ModelProfile

    from guardrail.guard.guard import Guard
    from guardrail.models.fingerprint import ModelFingerprint
    from guardrail.models.loading import LoadOptions
    from guardrail.models.local import LocalModel

__all__ = ["Opened", "Source", "open_source", "shared_model"]

_lock = ForkSafeLock()
_models: "WeakValueDictionary[tuple[str, str], LocalModel]" = WeakValueDictionary()
_fingerprints: "WeakKeyDictionary[LocalModel, ModelFingerprint]" = WeakKeyDictionary()


class Source(NamedTuple):
    """What a chat model is opened by; its own fields of these names, arguments of a template as JSON."""

    model: "str | LocalModel | None"
    policy: str | Path | Policy
    targets: Mapping[str, Any] | None
    device: str
    dtype: str
    quantization: Literal["8bit", "4bit"] | None
    batch_size: int
    chat_template_kwargs: str = "{}"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a chat model runs on.

    Attributes:
        source: What it was opened by.
        guard: The guard over the model.
        identity: Digests of everything that tells its answers and verdicts from another's.
        shows_tools: Whether the model's chat template shows tools.
        model_profile: What the model can do, in LangChain's form.
    """

    source: Source
    guard: "Guard"
    identity: Mapping[str, Any]
    shows_tools: bool
    model_profile: "ModelProfile"

    def is_of(self, source: Source) -> bool:
        """Whether it was opened by the same things: the same objects, or equal texts and numbers."""
        return all(
            one is other or (isinstance(one, str | int | Path) and one == other)
            for one, other in zip(self.source, source, strict=True)
        )


def open_source(source: Source) -> Opened:
    """Open the model and its guard.

    Raises:
        GuardrailError: As for :class:`~guardrail.guard.guard.Guard` and its ``from_policy``.
    """
    # Before the weights, which take longer: mistakes in a policy are told at once.
    policy = source.policy if isinstance(source.policy, Policy) else load_policy(source.policy)
    from guardrail.guard.guard import Guard
    from guardrail.langchain.model_profile import model_profile
    from guardrail.models.loading import LoadOptions
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import shows_tools
    from guardrail.scoring.fingerprint import fingerprint_scorer

    model = source.model
    if not isinstance(model, LocalModel):
        load = LoadOptions(device=source.device, dtype=source.dtype, quantization=source.quantization)
        model = shared_model(model or policy.model or DEFAULT_MODEL, load)
    guard = Guard(
        policy,
        model,
        targets=source.targets,
        batch_size=source.batch_size,
        chat_template_kwargs=json.loads(source.chat_template_kwargs),
    )
    identity = {
        "model": _fingerprint_of(guard.model).as_plain(),
        "scorer": fingerprint_scorer(guard.scoring).as_plain(),
        "policy": policy.digest,
        "profile": guard.profile_digest,
        "targets": _identities(source.targets),
    }
    return Opened(source, guard, identity, shows_tools(model.tokenizer), model_profile(model))


def shared_model(name: str, options: "LoadOptions") -> "LocalModel":
    """Open a model, or give the one that is open already, with the same options, somewhere in this process.

    Raises:
        GuardrailError: As for :meth:`~guardrail.models.local.LocalModel.load`.
    """
    from guardrail.models.local import LocalModel

    reference = ModelReference.parse(name)
    place = (str(reference), repr(options))
    with _lock:
        model = _models.get(place)
        if model is None or model.is_torn:
            model = _models[place] = LocalModel.load(reference, options)
        return model


def _fingerprint_of(model: "LocalModel") -> "ModelFingerprint":
    """A model's fingerprint, made once: it reads all weights."""
    from guardrail.models.fingerprint import fingerprint_model

    with _lock:
        if model not in _fingerprints:
            _fingerprints[model] = fingerprint_model(model)
        return _fingerprints[model]


def _identities(targets: Mapping[str, Any] | None) -> dict[str, str]:
    """What tells targets that a caller handed over from others, for a cache of answers.

    A function cannot be told from another of its name, nor a chain from another: each is taken for one of its
    own, so that nothing is shared between caches that should not be.
    """
    return {name: _identity(target) for name, target in sorted((targets or {}).items())}


def _identity(target: Any) -> str:
    if isinstance(target, HumanQueue):
        return target.url
    if isinstance(target, BaseChatModel):
        return identity_of(target)
    return uuid4().hex

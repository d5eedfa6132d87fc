"""Models shared by all chat models of a process, and what LangChain asks of a model beforehand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.model_profile import ModelProfile

from guardrail.errors import OptionError, PromptError
from guardrail.escalation.queue import HumanQueue
from guardrail.langchain._internals import identity_of
from guardrail.models.files.reference import DEFAULT_MODEL, ModelReference
from guardrail.models.prompt import encode_prompt, shows_tools
from guardrail.policy.load import load_policy
from guardrail.policy.model import Policy
from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from guardrail.guard.guard import Guard
    from guardrail.models.fingerprint import ModelFingerprint
    from guardrail.models.loading import LoadOptions
    from guardrail.models.local import LocalModel

__all__ = [
    "Opened",
    "Source",
    "arguments_as_json",
    "count_tokens",
    "model_profile",
    "open_source",
    "shared_model",
]


_ANY_QUESTION = {"role": "user", "content": "a"}


def model_profile(model: "LocalModel") -> ModelProfile:
    """What a model can do, in LangChain's form; what is not known of it is left out."""
    can_hold = find_spec("llguidance") is not None
    calls = shows_tools(model.tokenizer)
    facts: dict[str, Any] = {
        "name": model.name,
        "text_inputs": True,
        "text_outputs": True,
        **{f"{kind}_{way}": False for kind in ("image", "audio", "video") for way in ("inputs", "outputs")},
        "image_url_inputs": False,
        "pdf_inputs": False,
        "image_tool_message": False,
        "pdf_tool_message": False,
        "attachment": False,
        "tool_calling": calls,
        "tool_choice": calls and can_hold,
        "tool_call_streaming": calls,
        "structured_output": can_hold,
        "temperature": True,
    }
    if (context := model.anatomy.context_length) is not None:
        # The whole window, as LangChain has it: prompt and answer share it.
        facts |= {"max_input_tokens": context, "max_output_tokens": context - 1}
    # An older core warns of keys that it does not know.
    known = ModelProfile.__annotations__.keys()
    return cast("ModelProfile", {name: value for name, value in facts.items() if name in known})


def count_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    prompt: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
) -> int:
    """How many tokens the model reads of a conversation, with all that its template writes.

    What no model can be asked, such as an answer alone, is counted as a part of a conversation, and then
    rather too long than too short: ``trim_messages`` looks at such parts.
    """
    if not prompt:
        return 0
    for asked in (prompt, [*prompt, _ANY_QUESTION], [_ANY_QUESTION, *prompt]):
        try:
            return len(encode_prompt(tokenizer, asked, tools).ids)
        except PromptError:
            continue
    if len(prompt) > 1:
        return sum(count_tokens(tokenizer, [message], tools) for message in prompt)
    frame = len(encode_prompt(tokenizer, [_ANY_QUESTION], tools).ids)
    said = [str(prompt[0]["content"]), *([str(prompt[0]["tool_calls"])] if "tool_calls" in prompt[0] else [])]
    return frame + sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in said)


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


def arguments_as_json(kwargs: Mapping[str, Any] | None) -> str:
    """Arguments of a chat template as a text that can be compared.

    Raises:
        OptionError: They hold what is no JSON.
    """
    try:
        return json.dumps(kwargs or {}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OptionError(f"chat_template_kwargs holds what is no JSON: {error}.") from error


def open_source(source: Source, familiarity: Any = None) -> Opened:
    """Open the model and its guard.

    Args:
        source: What they are opened by.
        familiarity: What is known of the traffic, as for the guard.

    Raises:
        OptionError: A model that is open already is to be opened in another way.
        GuardrailError: As for :class:`~guardrail.guard.guard.Guard` and its ``from_policy``.
    """
    # Before the weights, which take longer: mistakes in a policy are told at once.
    policy = source.policy if isinstance(source.policy, Policy) else load_policy(source.policy)
    from guardrail.guard.guard import Guard
    from guardrail.models.loading import LoadOptions
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import shows_tools
    from guardrail.scoring.options import fingerprint_scorer

    model = source.model
    load = LoadOptions(device=source.device, dtype=source.dtype, quantization=source.quantization)
    if isinstance(model, LocalModel):
        if load != LoadOptions():
            raise OptionError(
                "device, dtype and quantization are for a model that is given by name, and this one is open "
                "already. Leave them out, or open it with them: LocalModel.load(name, LoadOptions(...))."
            )
    else:
        model = shared_model(model or policy.model or DEFAULT_MODEL, load)
    guard = Guard(
        policy,
        model,
        targets=source.targets,
        batch_size=source.batch_size,
        chat_template_kwargs=json.loads(source.chat_template_kwargs),
        familiarity=familiarity,
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

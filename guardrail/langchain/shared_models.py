"""Models shared by all chat models of a process, and the model facts that LangChain queries."""

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
    """Describe a model's capabilities in LangChain's form; unknown ones are left out."""
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
        # LangChain expects the whole context window, which prompt and answer share.
        facts |= {"max_input_tokens": context, "max_output_tokens": context - 1}
    # Older versions of langchain-core warn about unknown keys.
    known = ModelProfile.__annotations__.keys()
    return cast("ModelProfile", {name: value for name, value in facts.items() if name in known})


def count_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    prompt: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
) -> int:
    """Count the tokens of a conversation as the model reads it, including those its chat template adds.

    Messages that are not a valid prompt, such as a single answer, are counted as part of a conversation,
    because ``trim_messages`` counts such parts. That count errs on the high side.
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
    """The fields of a chat model that determine what it opens, with the template's arguments as JSON."""

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
    """An opened model with its guard.

    Attributes:
        source: Fields that it was opened from.
        guard: Guard around the model.
        identity: Digests of everything that its answers and verdicts depend on.
        shows_tools: Whether the model's chat template supports tools.
        model_profile: Capabilities of the model in LangChain's form.
    """

    source: Source
    guard: "Guard"
    identity: Mapping[str, Any]
    shows_tools: bool
    model_profile: "ModelProfile"

    def is_of(self, source: Source) -> bool:
        """Whether it was opened from the same fields: identical objects, or equal values.

        Only strings, integers and paths are compared by value.
        """
        return all(
            one is other or (isinstance(one, str | int | Path) and one == other)
            for one, other in zip(self.source, source, strict=True)
        )


def arguments_as_json(kwargs: Mapping[str, Any] | None) -> str:
    """Serialize the arguments of a chat template to a string that can be compared.

    Raises:
        OptionError: A value cannot be represented in JSON.
    """
    try:
        return json.dumps(kwargs or {}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OptionError(f"chat_template_kwargs holds what is no JSON: {error}.") from error


def open_source(source: Source, familiarity: Any = None) -> Opened:
    """Open the model and its guard.

    Args:
        source: Fields to open them from.
        familiarity: Knowledge of the traffic, as for the guard.

    Raises:
        OptionError: Load options are given for a model that is already open.
        GuardrailError: As for :class:`~guardrail.guard.guard.Guard` and its ``from_policy``.
    """
    # Loaded before the weights, which take longer, so that mistakes in the policy are reported at once.
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
    """Open a model, or return the one that this process has already opened with the same options.

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
    """Fingerprint a model; cached, because it reads all weights."""
    from guardrail.models.fingerprint import fingerprint_model

    with _lock:
        if model not in _fingerprints:
            _fingerprints[model] = fingerprint_model(model)
        return _fingerprints[model]


def _identities(targets: Mapping[str, Any] | None) -> dict[str, str]:
    """Identify the caller's escalation targets for caches of answers.

    Functions and chains cannot be compared, so each gets a unique identity, and cached answers are never
    shared between different ones.
    """
    return {name: _identity(target) for name, target in sorted((targets or {}).items())}


def _identity(target: Any) -> str:
    if isinstance(target, HumanQueue):
        return target.url
    if isinstance(target, BaseChatModel):
        return identity_of(target)
    return uuid4().hex

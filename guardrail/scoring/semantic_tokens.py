"""What is known of models: the position of their semantics-preserving token.

t* is a position in what a chat template writes after the user's text, so an entry holds for a model whose
prompts end in the very same tokens, of the same architecture. One that was scanned here also names the size
of the model and the hash of its whole template. Weights are not compared: a fine-tune or another quantisation
of a model that was scanned keeps its entry, until it is scanned itself.

Entries come from the user's own scans (``guardrail sps --save``) and from a file that ships; the user's go
first. Reading them loads no torch.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from guardrail import __version__
from guardrail.errors import OptionError, PromptError
from guardrail.models.files.resolve import models_root
from guardrail.models.prompt import template_tail
from guardrail.scoring.options import ScoringOptions
from guardrail.utils.files import write_whole

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.scoring.semantic_scan import Choice, Scan

__all__ = [
    "KnownToken",
    "ModelKey",
    "entry_of",
    "find_known",
    "key_of",
    "known_token",
    "registry_path",
    "save_known",
    "saved_tokens",
    "shipped_tokens",
    "with_known_token",
]


class ModelKey(NamedTuple):
    """What a known token is found by.

    Attributes:
        model_type: What transformers calls the architecture.
        layers: Number of decoder layers L.
        width: Width of the embeddings.
        chat_template: SHA-256 of the chat template; None for a base model.
        tail: Texts of the tokens that the template writes after the user's text; empty for a base model.
    """

    model_type: str
    layers: int
    width: int
    chat_template: str | None
    tail: tuple[str, ...]


class KnownToken(BaseModel):
    """The semantics-preserving token of a model, or of a family with one template.

    Attributes:
        name: The model that was scanned, or the family.
        model_types: Architectures that it holds for.
        size: Number of layers and width; None where it holds for every size of the family.
        chat_template: SHA-256 of the chat template of a scanned model; not compared for a family.
        tail: Tokens that a prompt ends with.
        position: t*, counted from the end of the prompt.
        token: Its text; None where it is another one in every prompt.
        source: Who found it, by what.
        note: What else there is to know, for a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    model_types: tuple[str, ...]
    size: tuple[int, int] | None = None
    chat_template: str | None = None
    tail: tuple[str, ...]
    position: Annotated[int, Field(lt=0)]
    token: str | None
    source: str
    note: str = ""

    def holds_for(self, key: ModelKey) -> bool:
        """Whether this is said of a model with this key."""
        if key.model_type not in self.model_types or key.tail != self.tail:
            return False
        is_family = self.size is None
        return is_family or (self.size, self.chat_template) == ((key.layers, key.width), key.chat_template)


_ENTRIES = TypeAdapter(tuple[KnownToken, ...])


def key_of(model: "LocalModel") -> ModelKey:
    """What this model's token is found by."""
    tokenizer, config = model.tokenizer, model.anatomy.config
    template = tokenizer.chat_template
    tail = template_tail(tokenizer, model.chat_template_kwargs)
    return ModelKey(
        model_type=str(config.model_type),
        layers=len(model.anatomy.layers),
        width=int(model.model.get_input_embeddings().weight.shape[1]),
        chat_template=sha256(str(template).encode()).hexdigest() if template else None,
        tail=tuple(str(tokenizer.decode([token])) for token in tail),
    )


def find_known(key: ModelKey, entries: Sequence[KnownToken]) -> KnownToken | None:
    """The first entry that holds for a model, those of one model before those of a family."""
    ordered = sorted(entries, key=lambda entry: entry.size is None)
    return next((entry for entry in ordered if entry.holds_for(key)), None)


def known_token(model: "LocalModel") -> KnownToken | None:
    """What is known of a model: by the user's own scan, or by what ships.

    Raises:
        OptionError: The file of the user's scans is damaged.
    """
    try:
        key = key_of(model)
    except PromptError:
        # The template takes no lone question, so no scan could have asked it one.
        return None
    return find_known(key, saved_tokens()) or find_known(key, shipped_tokens())


def entry_of(model: "LocalModel", scan: "Scan", choice: "Choice", questions: Path) -> KnownToken:
    """A scan as it is kept."""
    key = key_of(model)
    return KnownToken(
        name=model.name,
        model_types=(key.model_type,),
        size=(key.layers, key.width),
        chat_template=key.chat_template,
        tail=key.tail,
        position=choice.position,
        token=scan.tokens[choice.position],
        source=f"guardrail {__version__} sps {questions.name}: {scan.queries} queries, "
        f"{scan.prompts} wordings",
    )


def with_known_token(options: ScoringOptions, model: "LocalModel") -> ScoringOptions:
    """The options with the known token of a model, where nothing else is asked for.

    It becomes an explicit position: None in options, and so in a profile's scorer, always means the rule. A
    profile's answers are scored where those were that it was made from, whatever was scanned since.
    """
    if options.semantic_token is not None:
        return options
    known = known_token(model)
    if known is None:
        return options
    return replace(options, semantic_token=known.position, known=True)


def shipped_tokens() -> tuple[KnownToken, ...]:
    """The entries that ship, each with its source."""
    path = Path(str(files("guardrail"))) / "data" / "semantic_tokens.json"
    return _ENTRIES.validate_json(path.read_bytes())


def saved_tokens() -> tuple[KnownToken, ...]:
    """The user's own scans.

    Raises:
        OptionError: The file of them is damaged.
    """
    path = registry_path()
    try:
        return _ENTRIES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise OptionError(
            f"The semantic tokens that were saved in {path} cannot be read. Delete the file, and scan again "
            "(guardrail sps --save)."
        ) from error


def save_known(entry: KnownToken) -> Path:
    """Keep the scan of a model in place of an earlier one of it, and say where.

    Raises:
        OptionError: The file cannot be read or written.
    """
    path = registry_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            kept = [one for one in saved_tokens() if _same_model(one) != _same_model(entry)]
            values = [one.model_dump(mode="json") for one in (*kept, entry)]
            write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def registry_path() -> Path:
    """The file of the user's own scans, beside the models that were fetched."""
    return models_root().parent / "semantic_tokens.json"


def _same_model(entry: KnownToken) -> tuple[object, ...]:
    return entry.model_types, entry.size, entry.chat_template, entry.tail

"""The base of every record in a file, and the reading of one."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from guardrail.errors import RecordError
from guardrail.utils.json_lines import kind_of

__all__ = ["FiniteFloat", "FrozenModel", "StrictBool", "read_model"]


class FrozenModel(BaseModel):
    """Base of every record in a file: it is not changed once it is made, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


Model = TypeVar("Model", bound=FrozenModel)

FiniteFloat = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number, and nothing that could be taken for one: no text, no true or false."""


def read_model(kind: type[Model], values: Mapping[str, Any]) -> Model:
    """Make a record of values that were read from a file.

    Raises:
        RecordError: A value is missing or is not what it must be; the first of them is named.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        found = "is missing" if first["type"] == "missing" else f"is {kind_of(first['input'])}"
        raise RecordError(
            f"A part of it is missing or was changed: {where} {found}. {first['msg']}."
        ) from error

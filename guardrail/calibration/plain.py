"""What every part of a profile is: frozen plain data that refuses keys it does not know, and NaN."""

from pydantic import BaseModel, ConfigDict

__all__ = ["PlainData"]


class PlainData(BaseModel):
    """Base of everything that is written to a profile."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

"""What a conversation can hold and JSON cannot."""

import dataclasses
import enum
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pydantic
import torch


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: float
    y: object = None


class Order(pydantic.BaseModel):
    amount: Decimal
    secret: pydantic.SecretStr = pydantic.SecretStr("hush")
    internal: str = pydantic.Field("inside", exclude=True)


class Rude:
    def __str__(self):
        raise RuntimeError("no")


def circle():
    values: dict = {"a": [1]}
    values["a"].append(values)
    return values


def deep(levels=500):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def swelling(levels=60):
    value: object = [1]
    for _ in range(levels):
        value = [value, value]
    return value


HOSTILE = {
    "nan": float("nan"),
    "inf": float("inf"),
    "date": date(2026, 1, 31),
    "datetime": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "time": time(12, 30),
    "timedelta": timedelta(hours=1),
    "decimal": Decimal("1.10"),
    "decimal nan": Decimal("sNaN"),
    "fraction": Fraction(1, 3),
    "uuid": uuid.UUID(int=1),
    "path": Path("a/b"),
    "bytes": b"abc",
    "no utf-8": b"\xff\x00",
    "set": {"b", "a"},
    "mixed set": {1, "a", None},
    "tuple": (1, (2,)),
    "enum": Colour.RED,
    "int enum": Level.HIGH,
    "model": Order(amount=Decimal("2.50")),
    "class": Order,
    "dataclass": Point(float("nan"), {1}),
    "huge": 10**400,
    "huger": 10**5000,
    "complex": 1 + 2j,
    "keys": {1: "a", "1": "b", None: "c", (1, 2): "d", 2.5: "e"},
    "circle": circle(),
    "deep": deep(),
    "half a pair": "a\ud800b",
    "half a pair as key": {"\udfff": 1},
    "numpy": np.float32("nan"),
    "array": np.arange(3),
    "tensor": torch.tensor([[1.5]]),
    "object": object(),
    "rude": Rude(),
    "function": circle,
    "error": ValueError("x"),
    "generator": (one for one in range(3)),
    "nul": "a\0b",
}

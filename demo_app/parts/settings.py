"""What the demo was started with: the model, the policy, and the folder that its files are kept in."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from guardrail.models.reference import DEFAULT_MODEL

__all__ = ["Settings", "environment", "queue_url", "settings"]

# Environment variables, so that ``streamlit run`` can start the demo too.
_MODEL, _POLICY, _DATA = "GUARDRAIL_DEMO_MODEL", "GUARDRAIL_DEMO_POLICY", "GUARDRAIL_DEMO_DATA"

# What ready policies call their queue by.
_QUEUE = "GUARDRAIL_QUEUE"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the demo was started with.

    Attributes:
        model: The model's name.
        policy: Path of a policy, or ``builtin:NAME``.
        data: Folder of profiles, labels and queues.
    """

    model: str
    policy: str
    data: Path


def settings() -> Settings:
    """Read them; the folder is made if it is not there."""
    data = (
        Path(os.environ.get(_DATA) or platformdirs.user_data_path("guardrail") / "demo")
        .expanduser()
        .absolute()
    )
    data.mkdir(parents=True, exist_ok=True)
    return Settings(
        os.environ.get(_MODEL) or DEFAULT_MODEL, os.environ.get(_POLICY) or "builtin:default", data
    )


def queue_url() -> str:
    """The queue of policies that name none of their own, as the ready ones: in the demo's folder."""
    return os.environ.get(_QUEUE) or f"sqlite:///{settings().data / 'guardrail.db'}"


def environment() -> dict[str, str]:
    """What ``${VAR}`` stands for in the policies that come with guardrail or with the demo's start."""
    return {**os.environ, _QUEUE: queue_url()}

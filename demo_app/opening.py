"""Opening the model while the server starts, before the first visitor asks."""

from contextlib import suppress
from importlib import import_module

from demo_app.parts.models import house
from demo_app.parts.settings import environment, settings
from guardrail.errors import GuardrailError
from guardrail.policy.loading import check_policy

__all__ = ["open_model"]


def open_model() -> None:
    """Open what the demo was started with. What goes wrong is said to the first who asks."""
    given = settings()
    policy = check_policy(given.policy, environment()).policy
    if policy is not None:
        with suppress(GuardrailError):
            house().guard(policy, given.model)
    for name in ("compare", "policy", "calibration", "review"):
        import_module(f"demo_app.views.{name}")

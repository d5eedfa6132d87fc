"""Opening the model while the server starts, before the first visitor asks."""

from contextlib import suppress
from importlib import import_module
from time import sleep

from demo_app.parts.known import decided, known
from demo_app.parts.models import house
from demo_app.parts.settings import environment, settings
from guardrail import Policy
from guardrail.calibration.builtin import builtin_profile
from guardrail.errors import GuardrailError
from guardrail.policy.loading import check_policy

__all__ = ["open_model"]

# In it a question that waited for the model takes its place in the line.
_A_MOMENT = 0.2


def open_model() -> None:
    """Open what the demo was started with, then the other pages. What goes wrong is told who asks first."""
    given = settings()
    policy = check_policy(given.policy, environment()).policy
    if policy is not None:
        with suppress(GuardrailError):
            house().guard(policy, given.model)
    # Whoever asks meanwhile waits for the same interpreter.
    sleep(_A_MOMENT)
    while house().is_asked:
        sleep(_A_MOMENT)
    for name in ("compare", "policy", "calibration", "review"):
        import_module(f"demo_app.views.{name}")
    if policy is not None:
        with suppress(GuardrailError):
            _read_known(policy, given.model)


def _read_known(policy: Policy, model: str) -> None:
    """Work out what the policy page counts, for its first visitor."""
    profile = policy.profile_path or builtin_profile(model)
    if profile is not None and (found := known(profile)) is not None:
        decided(policy, found)

"""Chat models over the tiny model, and what they are asked."""

from guardrail.langchain import ChatGuardrail
from guardrail.models.local import LocalModel
from tests.support.chat import tiny_chat
from tests.support.guards import policy_of, tiny
from tests.support.templates import HERMES

ABSTAIN = {"id": "never", "action": "abstain", "message": "I would rather not say."}


def chat_of(*rules, model=None, mode="enforce", policy=None, max_tokens=6, **options):
    """A chat model over the tiny model; ``policy`` is further fields of the policy."""
    policy = policy_of(*rules, mode=mode, **(policy or {}))
    return ChatGuardrail(model=model or tiny(), policy=policy, max_tokens=max_tokens, **options)


def calling_model():
    """A tiny model whose template shows tools."""
    model, tokenizer = tiny_chat()
    tokenizer.chat_template = HERMES
    return LocalModel(model, tokenizer, "caller")

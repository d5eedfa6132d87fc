"""Cases to escalate."""

from guardrail.escalation.case import Case


def case_of(number=0, **changes):
    values = {
        "id": f"{number:032x}",
        "messages": [{"role": "user", "content": "Who wrote Faust? 🖋"}],
        "draft": "Schiller.",
        "rule": "unsure",
        "reason": "confidence is 0.31, below 0.5",
        "confidence": 0.31,
        "scores": {"hybridgrad": 0.002},
        "finish_reason": "stop",
        "tags": ["demo"],
        "model": "tiny",
        "policy_digest": "p" * 64,
        "profile_digest": None,
    }
    return Case(**{**values, **changes})

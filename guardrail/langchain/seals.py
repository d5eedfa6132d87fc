"""Verdicts that this process gave, told from those that anybody may write onto a message.

A verdict travels as plain values, so a provider, a function or a restored conversation can bring one that no
guard gave, or one that was given for another answer. Each that is given here gets a seal: codes over the
verdict alone, over it and what was asked, and over it and what was answered, by a key that this process made
and tells nobody. A seal does not outlive the process; the answer is then judged again.
"""

import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from langchain_core.messages import BaseMessage

from guardrail.langchain.answer_parts import AnswerParts

__all__ = ["SEAL_KEY", "is_given", "sealed", "unsealed"]

# Where a verdict has its seal.
SEAL_KEY = "seal"

_KEY = secrets.token_bytes(32)

Asked = Sequence[BaseMessage]


def sealed(
    verdict: Mapping[str, Any], *, asked: Asked | None = None, said: AnswerParts | None = None
) -> dict[str, Any]:
    """The verdict with a seal.

    Args:
        verdict: What was decided, plain values for JSON.
        asked: What was asked; the seal holds for no question where it is not given.
        said: What was answered; the seal holds for no answer where it is not given.
    """
    plain = unsealed(verdict)
    codes = (_code(plain), asked and _code(plain, asked=asked), said and _code(plain, said=said))
    return {**plain, SEAL_KEY: ".".join(code or "" for code in codes)}


def unsealed(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict without its seal."""
    return {key: value for key, value in verdict.items() if key != SEAL_KEY}


def is_given(
    verdict: Mapping[str, Any], *, asked: Asked | None = None, said: AnswerParts | None = None
) -> bool:
    """Whether this process gave a verdict, and for what is named here.

    Args:
        verdict: What is taken for a verdict.
        asked: If given, it must have been given for an answer to this.
        said: If given, it must have been given for this answer.
    """
    seal = verdict.get(SEAL_KEY)
    codes = seal.split(".") if isinstance(seal, str) else []
    if len(codes) != 3:
        return False
    plain = unsealed(verdict)
    try:
        expected = (
            _code(plain),
            codes[1] if asked is None else _code(plain, asked=asked),
            codes[2] if said is None else _code(plain, said=said),
        )
    except (TypeError, ValueError, RecursionError):
        return False
    return all(map(hmac.compare_digest, map(str.encode, codes), map(str.encode, expected)))


def _code(plain: Mapping[str, Any], *, asked: Asked | None = None, said: AnswerParts | None = None) -> str:
    what: list[Any] = ["verdict"]
    if asked is not None:
        what = ["asked", [[message.type, str(message.text)] for message in asked]]
    elif said is not None:
        what = ["said", said.words]
    words = json.dumps([plain, *what], sort_keys=True)
    return hmac.new(_KEY, words.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:32]

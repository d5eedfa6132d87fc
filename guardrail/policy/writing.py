"""A policy as YAML that reads as the same policy."""

import re
from typing import Any

import yaml

from guardrail.policy.model import Policy

__all__ = ["policy_yaml"]

# Texts that no reader takes for a number or a date; PyYAML quotes what else it must.
_PLAIN = re.compile(r"[A-Za-z_][\w ,./:()-]*")


def policy_yaml(policy: Policy) -> str:
    """All of a policy, with every default written out."""
    return yaml.dump(
        _escaped(policy.as_plain()), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _escaped(value: Any) -> Any:
    """Dollar signs doubled: a variable has been filled in, and is not to be filled in again."""
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


_Dumper.add_representer(str, _represent_text)

"""Files of keys, and requests of those who have one."""

import json
from hashlib import sha256

from tests.support.serving import CHAT, QUESTION


def key_of(name):
    return f"a-key-for-{name}-of-some-length"


def entry(name, **fields):
    return {"name": name, "sha256": sha256(key_of(name).encode()).hexdigest(), **fields}


def written(folder, *entries, policies=None):
    path = folder / "keys.yaml"
    # YAML reads JSON.
    path.write_text(json.dumps({"policies": policies or {}, "keys": entries}))
    path.chmod(0o600)
    return path


def bearer(name):
    return {"authorization": f"Bearer {key_of(name)}"}


def ask(served, name, path=CHAT, headers=None, **fields):
    body = {"model": "tiny", "messages": QUESTION, **({"max_tokens": 4} if path == CHAT else {}), **fields}
    return served.client.post(path, json=body, headers={**bearer(name), **(headers or {})})

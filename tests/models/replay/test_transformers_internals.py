"""What happens without names that transformers does not promise to keep, and what its import is told."""

import json
import subprocess
import sys

import pytest

from guardrail.models.replay import transformers_internals
from guardrail.models.replay.transformers_internals import gguf_progress, missing_internal
from tests.support.chat import save_tiny_chat

CACHES = "transformers.cache_utils"
# Without one of these nothing can be run again, and all of it is scored by the full backward.
NEEDED = [
    "transformers:AttentionInterface",
    "transformers:AttentionInterface.register",
    "transformers:AttentionMaskInterface",
    "transformers:AttentionMaskInterface.register",
    f"{CACHES}:CacheLayerMixin",
    f"{CACHES}:DynamicLayer",
    f"{CACHES}:DynamicLayer.get_seq_length",
    f"{CACHES}:DynamicSlidingWindowLayer",
    "transformers.configuration_utils:PreTrainedConfig._attn_implementation",
    "transformers.integrations.sdpa_attention:sdpa_attention_forward",
    "transformers.masking_utils:sdpa_mask",
    "transformers.modeling_utils:PreTrainedModel._supports_attention_backend",
]
# Without one of these something takes longer.
SPARED = [
    "transformers:_import_structure",
    "transformers.models.auto.modeling_auto:MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "transformers.utils.import_utils:define_import_structure",
    "transformers.utils:is_scipy_available",
]

# In one process, since each would import torch and transformers: first the import, then the names.
IMPORTED = """
import gc, sys
from guardrail.models.replay.transformers_internals import import_quickly
ROOM = "guardrail.models.local"
seen = []

sys.modules["guardrail.models.generation"] = None
try:
    import_quickly(ROOM)
except ImportError:
    seen.append(["collects", gc.isenabled(), "frozen", gc.get_freeze_count()])
del sys.modules["guardrail.models.generation"]
import_quickly(ROOM)
seen.append(["collects", gc.isenabled(), "frozen", gc.get_freeze_count() > 100_000])
del sys.modules[ROOM]
gc.disable()
import_quickly(ROOM)
seen.append(["collects", gc.isenabled()])
gc.enable()

from transformers import models
from transformers.utils import import_utils, is_scipy_available
structure = import_utils.define_import_structure(models.__file__)
whole = import_utils._LazyModule("whole", models.__file__, structure)
seen.append(["models", models._class_to_module == whole._class_to_module, models._modules == whole._modules])
seen.append(["scipy", "scipy.optimize" in sys.modules, is_scipy_available()])
seen[-1].append(import_utils.is_scipy_available())
"""

WITHOUT = """
import json, types
from importlib import import_module

class Lacking(type):
    "A class without one of its attributes."

    def __getattr__(cls, name):
        if name == Lacking.gone:
            raise AttributeError(name)
        return getattr(Lacking.original, name)

class Without(types.ModuleType):
    "A module of transformers without one of its names, or with a class that lacks an attribute."

    def __init__(self, module, name, attribute):
        super().__init__(module)
        self.original, self.gone = import_module(module), None if attribute else name
        if attribute:
            setattr(self, name, Lacking(name, (), {}))
            Lacking.original, Lacking.gone = getattr(self.original, name), attribute

    def __getattr__(self, name):
        if name == self.gone:
            raise AttributeError(name)
        return getattr(self.original, name)

def found():
    for name in [name for name in sys.modules if name.partition(".")[0] == "guardrail"]:
        del sys.modules[name]
    from guardrail.models.replay.transformers_internals import import_quickly
    import_quickly(ROOM)
    from guardrail.models.forward import log_likelihoods
    from guardrail.models.local import LocalModel
    from guardrail.models.sampling import Sampling
    from guardrail.scoring.options import ScoringOptions, Span
    from guardrail.scoring.score import score
    from guardrail.scoring.segments import score_segments
    model = LocalModel.load(sys.argv[1])
    (trace,) = model.generate_batch(["Hi?"], Sampling(max_tokens=5, ignore_end=True))
    scored = score(model, trace, release=False)
    return {
        "answer": trace.text,
        "scores": scored.scores(),
        "full": score(model, trace, ScoringOptions(computation="full"), release=False).scores(),
        "segments": [one.scores() for one in score_segments(model, trace, [Span(0, 2), Span(2, 5)])],
        "likelihoods": log_likelihoods(model, model.encode_prompt("Hi?"), [[20, 21], [22]]),
        "computation": [scored.computation, scored.computation_reason],
    }

results = {"": found()}
for gone in json.loads(sys.argv[2]):
    module, _, rest = gone.partition(":")
    sys.modules[module] = Without(module, *rest.partition(".")[::2])
    results[gone] = found()
    sys.modules[module] = sys.modules[module].original
print(json.dumps([seen, results]))
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """What an import was told, and what comes of a question with every name there, and without each."""
    folder = save_tiny_chat(tmp_path_factory.mktemp("tiny"))
    process = subprocess.run(
        [sys.executable, "-c", IMPORTED + WITHOUT, str(folder), json.dumps([*NEEDED, *SPARED])],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture
def results(child):
    return child[1]


def close(scores):
    return pytest.approx(scores, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("gone", NEEDED)
def test_without_a_name_that_it_needs_a_model_answers_and_is_scored_by_the_full_backward(results, gone):
    usual, found = results[""], results[gone]
    assert usual["computation"] == ["truncated", ""]
    assert found["answer"] == usual["answer"]
    assert found["scores"] == found["full"]
    assert found["scores"] == close(usual["scores"])
    assert found["segments"] == [close(one) for one in usual["segments"]]
    assert found["likelihoods"] == close(usual["likelihoods"])
    computation, reason = found["computation"]
    assert computation == "full"
    assert f"lacks {gone.replace(':', '.')}, which the truncated backward needs" in reason


@pytest.mark.parametrize("gone", SPARED)
def test_without_a_name_that_only_spares_time_all_is_as_ever(results, gone):
    assert results[gone] == results[""]


def test_every_name_that_is_looked_up_is_tried():
    tried = {tuple(one.partition(":")[2].split(".")) for one in NEEDED}
    assert {name for name, *_ in tried} == set(transformers_internals._HOMES)
    assert missing_internal() == ""


def test_a_file_is_converted_without_progress_where_the_bar_is_elsewhere(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.modeling_gguf_pytorch_utils", None)
    with gguf_progress(list):
        pass


def test_what_an_import_spares_comes_out_the_same_and_is_undone(child):
    failed, done, without_collector, models, scipy = child[0]
    assert failed == ["collects", True, "frozen", 0]
    assert done == ["collects", True, "frozen", True]
    assert without_collector == ["collects", False]
    assert models == ["models", True, True]
    assert scipy == ["scipy", False, True, True]

"""What it costs to show an answer sentence by sentence: ``python tests/benchmarks/sentence_release.py``.

For each question, in one process and by turns: the answer by ``streaming: buffer``, and the same by
``streaming: sentences``. Told are the seconds of processor time until the first sentence is shown and until
the verdict, beside those of the buffered answer, and whether both answers are the same.
"""

import sys
import tempfile
from pathlib import Path
from time import process_time

from guardrail.calibration.fit import reference_profile
from guardrail.calibration.options import MakingSource
from guardrail.calibration.profile import write_profile
from guardrail.guard import Guard
from guardrail.models.decoding import GenerationControls
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from guardrail.policy.model import Policy
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from guardrail.scoring.uncertainty import Observation

QUESTIONS = (
    "Explain in five sentences why the sky is blue.",
    "Tell me about the city of Paris in five sentences.",
    "How do bees make honey? Answer in five sentences.",
)
TOKENS = 96


def policies(model: LocalModel, folder: Path) -> tuple[Policy, Policy]:
    """A policy that passes everything at once, and one that does so sentence by sentence."""
    profile = reference_profile(
        [Observation({"hybridgrad": 0.01, "tokens": 20.0})],
        model=fingerprint_model(model),
        scorer=fingerprint_scorer(ScoringOptions(reduction="mean")),
        making=MakingSource(questions="none", questions_sha256="0", judge="nobody", generation={}),
        unit="sentence",
    )
    path = folder / "sentences.json"
    write_profile(profile, path)
    plain = {"version": 1, "name": "all", "rules": [{"id": "all", "action": "pass"}]}
    by_sentences = {**plain, "streaming": "sentences", "profile": str(path)}
    return Policy.model_validate(plain), Policy.model_validate(by_sentences).found_at(path)


def main(name: str, questions: int) -> None:
    """Measure, and print a line for each question."""
    model = LocalModel.load(name)
    with tempfile.TemporaryDirectory() as folder:
        whole, by_sentence = (Guard(policy, model) for policy in policies(model, Path(folder)))
    sampling = Sampling(max_tokens=TOKENS)
    whole.ask("Hi.", Sampling(max_tokens=2))
    for question in QUESTIONS[:questions]:
        began = process_time()
        answer = whole.ask(question, sampling)
        buffered = process_time() - began
        times: list[float] = []
        controls = GenerationControls(on_text=lambda _, times=times: times.append(process_time()))
        began = process_time()
        streamed = by_sentence.ask(question, sampling, controls=controls)
        taken, shown = process_time() - began, [time - began for time in times]
        tokens = answer.usage.completion_tokens if answer.usage else 0
        print(
            f"{tokens} tokens, {len(shown)} sentences: first {shown[0]:.2f} s, verdict {taken:.2f} s; "
            f"buffered {buffered:.2f} s; ratio first {shown[0] / buffered:.2f}, all {taken / buffered:.2f}; "
            f"same text: {streamed.text == answer.text}"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m", len(QUESTIONS))

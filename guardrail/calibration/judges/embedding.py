"""The judge that compares meanings, by sentence embeddings."""

from collections.abc import Sequence
from typing import Any

from guardrail.calibration.judges.judge import Verdict
from guardrail.calibration.judges.matching import check_threshold
from guardrail.errors import MissingDependencyError, ModelUnavailableError
from guardrail.models.quiet import quiet_transformers
from guardrail.models.reasoning import answer_of

__all__ = ["DEFAULT_EMBEDDING_MODEL", "EmbeddingJudge"]

DEFAULT_EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class EmbeddingJudge:
    """The answer means nearly what an accepted one does: their embeddings' cosine reaches a threshold.

    It is for answers of a sentence or more. Which of two names, numbers or places is right, an embedding
    hardly knows: look at some of its verdicts before you rely on it.

    Args:
        model: Name or folder of a model of sentence-transformers.
        threshold: Least cosine of a right answer, above 0 and up to 1.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        ModelUnavailableError: The model could not be opened.
    """

    needs_answers = True
    at_once = 1

    def __init__(self, model: str = DEFAULT_EMBEDDING_MODEL, threshold: float = 0.7) -> None:
        check_threshold("embedding", threshold)
        self.model, self.threshold = model, threshold
        self.name = f"embedding:{model}:{threshold:g}"
        self._encoder = _open(model)

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Verdict:
        """Judge one answer."""
        answer = answer_of(response)
        if not answer.strip():
            return Verdict(False, "The response is nothing but reasoning.")
        said, *wanted = self._encoder.encode(
            [answer, *accepted], normalize_embeddings=True, show_progress_bar=False
        )
        nearest, right = max((float(said @ one), text) for one, text in zip(wanted, accepted, strict=True))
        correct = nearest >= self.threshold
        return Verdict(correct, f"Cosine {nearest:.2f} to “{right}”, and {self.threshold:g} is right.")


def _open(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingDependencyError(
            "The judge embedding needs sentence-transformers: pip install 'guardrail-llm[evaluate]'"
        ) from error
    try:
        with quiet_transformers():
            return SentenceTransformer(model)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelUnavailableError(f"The judge's model {model} could not be opened: {reason}") from error

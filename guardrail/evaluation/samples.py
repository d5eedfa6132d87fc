"""Other answers drawn from the model, and its answers about its own (P(True), mutual information)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp, softmax

from guardrail.errors import OptionError
from guardrail.evaluation.methods import AnsweredQuestion, Sample
from guardrail.labelling.matching import F1Judge
from guardrail.models.forward import log_likelihoods

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import Trace

__all__ = [
    "ASIDES",
    "EMBEDDING_DEPTH",
    "ask_asides",
    "draw_samples",
    "information",
    "mutual_information",
    "p_true",
]


# The middle layer, where INSIDE (Chen et al., ICLR 2024) takes its embeddings.
EMBEDDING_DEPTH = 0.5

# Rows in one run: what a run keeps for scoring grows with them, and is discarded here.
ROWS_AT_ONCE = 40


def draw_samples(
    model: "LocalModel", prompts: Sequence["EncodedPrompt"], sampling: "Sampling", count: int
) -> list[tuple[Sample, ...]]:
    """Draw several answers to each prompt, for several prompts in one run.

    Args:
        model: The model.
        prompts: The prompts.
        sampling: How to draw; the temperature is above 0. The same seed, prompts and count give the same
            samples.
        count: How many answers to each prompt, at least 2.

    Returns:
        For each prompt its samples, each with its embedding (d numbers).

    Raises:
        OptionError: The temperature is 0, which gives one answer only, or the count is too small.
        PromptError: A prompt does not fit the context.
        GenerationError: The model gave logits that are not numbers.
    """
    if sampling.temperature == 0:
        raise OptionError("Samples are drawn at a temperature above 0; at 0 they would all be the same.")
    if count < 2:
        raise OptionError(f"The number of samples is {count}; what samples tell needs at least 2.")
    drawn: list[tuple[Sample, ...]] = []
    at_once = max(1, ROWS_AT_ONCE // count)
    for first in range(0, len(prompts), at_once):
        rows = [row for prompt in prompts[first : first + at_once] for row in repeat(prompt, count)]
        # So that two runs do not draw by the same noise.
        traces = model.generate_encoded(rows, sampling.drawn_apart(first), depths=[EMBEDDING_DEPTH])
        samples = [_sample(trace) for trace in traces]
        drawn += [tuple(samples[at : at + count]) for at in range(0, len(samples), count)]
    return drawn


def _sample(trace: "Trace") -> Sample:
    trace.release()
    (hidden,) = trace.hidden.values()
    # A sample cut off in its reasoning has no answer; its likelihood is that of the reasoning.
    start = trace.answer_start if trace.has_answer else 0
    return Sample(
        text=trace.text,
        token_ids=tuple(trace.response_ids[start:]),
        token_texts=tuple(trace.token_texts[start:]),
        log_probabilities=tuple(trace.log_probabilities[start:]),
        embedding=tuple(hidden.last.float().tolist()),
    )


QUESTIONS_AT_ONCE = 16

# Kadavath et al. (2022), section 3.2, where samples are shown for comparison.
_IS_IT_TRUE = (
    "Question: {question}\nHere are some brainstormed ideas:\n{ideas}\nPossible answer: {answer}\n"
    "Is the possible answer:\n (A) True\n (B) False\nThe possible answer is:"
)
# Abbasi-Yadkori et al. (2024), section 3, with one earlier answer.
_AGAIN = (
    "Consider the following question: Q: {question}\nOne answer to question Q is {answer}\n"
    "Provide an answer to the following question: Q: {question}"
)
# Answers that share this much of their words count as the same, as in the paper.
_SAME_ANSWER = F1Judge(0.25)


def ask_asides(
    model: "LocalModel", names: Sequence[str], answered: Sequence[AnsweredQuestion]
) -> list[Mapping[str, float]]:
    """Ask the model the further questions that methods need answered.

    Args:
        model: The model that gave the answers.
        names: Names of the questions: ``p_true``, ``mutual_information``.
        answered: The answers, with their samples.

    Returns:
        One mapping per answer, with a number for each name.

    Raises:
        OptionError: A name is unknown.
        PromptError: A question does not fit the context.
        GenerationError: The model gave logits that are not numbers.
    """
    for name in names:
        if name not in ASIDES:
            raise OptionError(f"There is no aside {name!r}; there are {', '.join(ASIDES)}.")
    values = {name: ASIDES[name](model, answered) for name in names}
    return [{name: values[name][at] for name in names} for at in range(len(answered))]


def p_true(model: "LocalModel", answered: Sequence[AnsweredQuestion]) -> list[float]:
    """P(True): the probability that the model gives to its own answer being true.

    Source: Kadavath et al., "Language Models (Mostly) Know What They Know", 2022, with samples shown.

    Returns:
        Numbers from 0 to 1.
    """
    # After a chat template a word begins the turn; after plain text it follows a space.
    true = model.encode_response("True" if model.tokenizer.chat_template else " True", "length")
    prompts = [
        _instead(
            model,
            one,
            _IS_IT_TRUE.format(
                question=one.question,
                ideas="\n".join(sample.text.strip() for sample in one.samples),
                answer=one.response.strip(),
            ),
        )
        for one in answered
    ]
    return [exp(one) for one in _log_likelihoods(model, [(prompt, true) for prompt in prompts])]


def mutual_information(model: "LocalModel", answered: Sequence[AnsweredQuestion]) -> list[float]:
    """Mutual information (nats) of a first answer and a second one given after reading the first.

    A model that knows is not swayed by a suggested answer. The distribution of first answers is that of the
    samples' likelihoods; that of second answers, the same answers' likelihoods after each first one.

    Source: Abbasi-Yadkori et al., "To Believe or Not to Believe Your LLM", NeurIPS 2024, algorithm 1 with two
    answers and without its stabilising constants, as in the public code of arXiv 2605.04638.

    Returns:
        Numbers from 0 up; 0 if all samples are the same answer.
    """
    return [_mutual_information(model, one) for one in answered]


def _mutual_information(model: "LocalModel", one: AnsweredQuestion) -> float:
    distinct, log_masses = _distinct(one)
    if len(distinct) < 2:
        return 0.0
    prompts = [
        _instead(model, one, _AGAIN.format(question=one.question, answer=first.text.strip()))
        for first in distinct
    ]
    seconds = [second.token_ids for second in distinct]
    behind = np.array([log_likelihoods(model, prompt, seconds) for prompt in prompts])
    conditional = softmax(behind, axis=1)
    return information(softmax(log_masses), conditional)


def information(first: Any, conditional: Any) -> float:
    """Mutual information of a joint distribution, nats.

    Args:
        first: Distribution of the first variable, (n,).
        conditional: Distribution of the second given each first, (n, m); rows sum to 1.
    """
    joint = first[:, None] * conditional
    second = np.broadcast_to(first @ conditional, joint.shape)
    some = joint > 0
    return max(0.0, float((joint[some] * np.log(conditional[some] / second[some])).sum()))


def _distinct(one: AnsweredQuestion) -> tuple[list[Sample], Any]:
    """The distinct samples, each with the log-likelihood of all samples that are the same answer."""
    members: list[tuple[Sample, list[float]]] = []
    for sample in {sample.text: sample for sample in one.samples}.values():
        found = next((m for m in members if _is_same(one.question, sample, m[0])), None)
        if found is None:
            members.append(found := (sample, []))
        found[1].append(sum(sample.log_probabilities))
    return [sample for sample, _ in members], np.array([logsumexp(values) for _, values in members])


def _is_same(question: str, one: Sample, other: Sample) -> bool:
    return bool(_SAME_ANSWER(question, one.text, [other.text]).correct)


def _instead(model: "LocalModel", one: AnsweredQuestion, asked: str) -> "EncodedPrompt":
    """The conversation with its last message replaced."""
    return model.encode_prompt([*one.messages[:-1], {"role": "user", "content": asked}])


def _log_likelihoods(model: "LocalModel", pairs: Sequence[tuple["EncodedPrompt", Sequence[int]]]) -> Any:
    """Log-likelihood (nats) of each response given its prompt."""
    values: list[float] = []
    for first in range(0, len(pairs), QUESTIONS_AT_ONCE):
        prompts, responses = zip(*pairs[first : first + QUESTIONS_AT_ONCE], strict=True)
        for trace in model.read_encoded(prompts, responses):
            trace.release()
            values.append(sum(trace.log_probabilities))
    return np.array(values)


ASIDES: Mapping[str, Callable[["LocalModel", Sequence[AnsweredQuestion]], list[float]]] = {
    "p_true": p_true,
    "mutual_information": mutual_information,
}

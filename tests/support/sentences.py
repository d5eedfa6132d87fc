"""Answers of several sentences that a tiny model is made to say, and policies that decide on each."""

from guardrail.calibration.profile import write_profile
from guardrail.guard import Guard
from guardrail.models import generation
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.segments import score_segments, sentence_spans
from tests.support.guards import policy_of, profile_of, tiny
from tests.support.reasoning import Said

ASKED = "Who wrote it?"
MEAN = ScoringOptions(reduction="mean")
ENOUGH = Sampling(max_tokens=120)
FIRST, SECOND = "Dr. Who wrote it. ", "It cost 3.5 mio. "
# What must be seen nowhere once it is withheld, and what follows it.
SECRET = "CANARY yop!"
LAST = " Bye now."
MESSAGE = "I stop here."


def sentence_profile(folder, model=None, **changes):
    """The file of a profile of sentences."""
    changes = {"options": MEAN, "states": False, **changes}
    made = profile_of(model, **changes).model_copy(update={"unit": "sentence", "certified": ()})
    path = folder / "sentences.json"
    write_profile(made, path)
    return path


def says(monkeypatch, text, end=True):
    """Make whatever is generated be this text."""
    tokenizer = tiny().tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids += [tokenizer.convert_tokens_to_ids("<|im_end|>")] if end else []
    monkeypatch.setattr(generation, "_held", lambda *_: Said(ids))


def scores_of(text, asked=ASKED):
    """The scores of each sentence of an answer that is at its end."""
    trace = tiny().read([{"role": "user", "content": asked}], text)
    return score_segments(tiny(), trace, sentence_spans(trace), MEAN)


def uncertain_third():
    """An answer whose third sentence is the least sure by far, and a bound between it and the others."""
    text = f"{FIRST}{SECOND}{SECRET}{LAST}"
    first, second, third, last = (one.semgrad for one in scores_of(text))
    others = max(first, second, last)
    assert third > 1.2 * others
    return text, (third + others) / 2


def by_sentences(profile, *rules, **fields):
    """A policy that decides on sentences."""
    fields = {"streaming": "sentences", "profile": str(profile), **fields}
    return policy_of(*rules, **fields).found_at(profile)


def stopping_at(bound):
    """Rules that withhold a sentence whose SemGrad is above a bound."""
    high = {"uncertainty": {"semgrad": {"gte": bound}}}
    return (
        {"id": "unlikely", "when": high, "action": "abstain", "message": MESSAGE},
        {"id": "all", "action": "pass"},
    )


def sentence_guard(profile, *rules, **fields):
    """A guard of such a policy over the tiny model."""
    return Guard(by_sentences(profile, *rules, **fields), tiny())

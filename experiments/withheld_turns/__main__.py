"""What should become of a turn whose answer was withheld?

    python -m experiments.withheld_turns

Asks the built-in model twelve questions that it knows, alone and after turns that were withheld, which are
kept as they were shown, marked, or left out. Prints how many answers would be shown, how many of these are
right, and how many repeat what the turns say.
"""

import argparse
from collections.abc import Mapping, Sequence

from guardrail import Guard, Sampling
from guardrail.guard.answer import DEFAULT_MESSAGES
from guardrail.policy.load import load_policy

Message = Mapping[str, str]
CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Peru": "Lima",
    "Egypt": "Cairo",
    "Germany": "Berlin",
    "Greece": "Athens",
    "Portugal": "Lisbon",
    "Australia": "Canberra",
    "Canada": "Ottawa",
    "Brazil": "Bras",
}
WITHHELD = ("Mongolia", "Chad", "Nauru")
WAYS: Mapping[str, str | None] = {
    "left out": None,
    "kept": DEFAULT_MESSAGES["abstain"],
    "marked": "[This answer was withheld.]",
    "empty": "",
}


def main() -> None:
    """Ask, count, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    # One that observes leaves nothing out.
    policy = load_policy("builtin:default").model_copy(update={"mode": "observe"})
    guard = Guard.from_policy(policy, arguments.model)
    print(f"{'turns':>5}  {'withheld turns':14}  shown  right  repeating")
    for turns in (1, 3):
        for name, said in WAYS.items():
            if said is not None or turns == 1:
                print(f"{turns:5}  {name:14}  {_counted(guard, _before(turns, said), said)}", flush=True)


def _counted(guard: Guard, before: Sequence[Message], said: str | None) -> str:
    shown = right = repeating = 0
    for country, capital in CAPITALS.items():
        answer = guard.ask([*before, _question(country)], Sampling(max_tokens=24))
        is_shown = answer.action in ("pass", "flag")
        shown += is_shown
        right += is_shown and capital in (answer.draft or "")
        repeating += bool(said) and str(said).strip("[].") in (answer.draft or "")
    return f"{shown:5}  {right:5}  {repeating:9}"


def _before(turns: int, said: str | None) -> list[Message]:
    if said is None:
        return []
    return [
        one
        for country in WITHHELD[:turns]
        for one in (_question(country), {"role": "assistant", "content": said})
    ]


def _question(country: str) -> Message:
    return {"role": "user", "content": f"What is the capital of {country}?"}


if __name__ == "__main__":
    main()

"""A small file of questions for the calibration page."""

import json

from guardrail.calibration.held_out import builtin_held_out


def questions_file(folder, count=120, longest=60):
    """Answers whose labels are known, cut to so many characters: the model reads them, and writes none."""
    lines = builtin_held_out("smollm2-135m").read_text(encoding="utf-8").splitlines()[1 : count + 1]
    answers = [json.loads(line) for line in lines]
    path = folder / "questions.jsonl"
    # Asked in other words: a question keeps its part by a hash, and of all these that is the held-out one.
    given = (
        {
            "prompt": f"Please tell me: {one['question']}",
            "response": one["response"][:longest],
            "correct": one["correct"],
        }
        for one in answers
    )
    path.write_text("".join(f"{json.dumps(one)}\n" for one in given))
    return path

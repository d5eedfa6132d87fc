import json

import pytest

LINES = [
    {"query": "Who wrote Faust?", "paraphrases": ["Faust is by whom?", "who wrote Faust", "Who made it?"]},
    {"question": "Why is the sky blue?", "paraphrases": ["What makes the sky blue?"]},
    {"question": "When was that?"},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)), encoding="utf-8")
    return path


@pytest.fixture
def cache(tmp_path):
    return {"GUARDRAIL_CACHE_DIR": str(tmp_path / "cache")}


def test_json_holds_every_layer_and_position_and_the_choice_with_its_samples(run, file):
    result = run("sps", file, "--tokens", 7, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["queries"], found["prompts"], found["left_out"]) == (2, 5, 1)
    assert [one["position"] for one in found["positions"]] == [*range(-7, 0)]
    assert all(len(one["layers"]) == 4 for one in found["positions"])
    for one in found["positions"]:
        assert one["upper_half"] == pytest.approx(sum(one["layers"][2:]) / 2)
    choice = found["choice"]
    assert found["semantic_token"]["position"] == choice["position"]
    assert sum(choice["wins"].values()) == pytest.approx(1)
    assert found["saved"] is None


def test_people_get_a_table_the_choice_and_the_picture(run, file, tmp_path):
    plot = tmp_path / "sps.png"
    result = run("sps", file, "--tokens", 8, "--plot", plot)
    assert result.exit_code == 0, result.stderr
    assert "differs" in result.stdout
    assert "<|im_start|>" in result.stdout
    assert "t* = -" in result.stdout
    assert "95 % interval" in result.stdout
    assert "1 paraphrase left out: no different wording" in result.stdout
    assert "1 queries without a paraphrase were skipped" in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_saved_scan_is_known_and_scores_are_taken_there_unless_told_otherwise(run, file, cache):
    chosen = json.loads(run("sps", file, "--save", "--json", **cache).stdout)["semantic_token"]
    listed = json.loads(run("sps", "--known", "--json", **cache).stdout)["known"]
    assert (listed[0]["from"], listed[0]["position"]) == ("saved", chosen["position"])
    assert {one["from"] for one in listed[1:]} == {"shipped"}
    answer = json.loads(run("ask", "Who?", "--max-tokens", 2, "--json", **cache).stdout)
    assert answer["semantic_token"] == {**chosen, "source": "known"}
    answer = json.loads(
        run("ask", "Who?", "--max-tokens", 2, "--semantic-token", -1, "--json", **cache).stdout
    )
    assert answer["semantic_token"]["source"] == "given"


def test_the_model_itself_makes_paraphrases_and_what_is_no_question_is_left_out(run, file):
    result = run("sps", file, "--paraphrases", 2, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    # The tiny model cannot ask.
    assert found["queries"] == 2
    assert "making paraphrases" in result.stderr


def test_known_names_each_source(run):
    result = run("sps", "--known")
    assert result.stdout.count("2605.04638") == 3


@pytest.mark.parametrize(
    ("content", "arguments", "sentence"),
    [
        (None, [], "Give a file of paraphrases, or --known"),
        ("Who?", [], "not a JSON Lines file"),
        (LINES[:1], [], "1 of the queries has paraphrases, and at least 2 must"),
        (LINES[2:], [], "has no paraphrases. Let a model write them: --paraphrases 5"),
        (LINES, ["--tokens", "90"], "tokens is 90, and the shortest prompt has"),
        (LINES, ["--tokens", "1"], "tokens is 1"),
        (LINES, ["--paraphrase-with", "openai:x"], "--paraphrase-with needs --paraphrases"),
        (LINES, ["--plot", "x.docx"], "use .png, .svg or .pdf"),
        (LINES, ["--paraphrases", "2", "--paraphrase-with", "nobody:x"], "nobody:x cannot be opened"),
    ],
)
def test_what_cannot_be_scanned_is_one_sentence(run, tmp_path, monkeypatch, content, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "given.jsonl"
    if isinstance(content, str):
        path.write_text(content)
    elif content:
        path.write_text("\n".join(map(json.dumps, content)))
    result = run("sps", *([path] if content else []), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in " ".join(result.stderr.split())
    assert result.stderr.count("error:") == 1


def test_every_position_can_be_chosen_from_where_that_is_asked_for(run, file):
    found = json.loads(run("sps", file, "--tokens", 9, "--any-position", "--json").stdout)
    assert len(found["choice"]["wins"]) == 9
    assert found["semantic_token"]["position"] == found["overall"]


@pytest.mark.slow
def test_smollm2_preserves_a_questions_meaning_most_in_the_words_and_the_ends_of_turns(run, tmp_path):
    questions = [
        ("Who wrote Faust?", "Faust was written by whom?", "Who is the author of Faust?"),
        ("Why is the sky blue?", "What makes the sky blue?", "What is the reason that the sky is blue?"),
        ("How many legs has a spider?", "A spider has how many legs?", "What number of legs has a spider?"),
        ("Where is Mount Fuji?", "In which country is Mount Fuji?", "What is the location of Mount Fuji?"),
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"query": q, "paraphrases": p}) for q, *p in questions))
    result = run("sps", path, "--json", model="smollm2-135m")
    assert result.exit_code == 0, result.stderr
    means = {one["position"]: one["upper_half"] for one in json.loads(result.stdout)["positions"]}
    assert json.loads(result.stdout)["rule"] == -4
    # As in the scans of 100 queries: both ends of a turn say more of the question than <|im_start|>.
    assert min(means[-1], means[-5]) > 2 * means[-4] > 0
    assert means[-8] > means[-1]

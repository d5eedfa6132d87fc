"""One writer at a time, and one way of going on after an interruption."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import guardrail
from guardrail.errors import FileInUseError, GuardrailError, OptionError, RecordError
from guardrail.utils.json_lines import json_object
from guardrail.utils.record_store import RecordStore

WRITER = """
import sys, time
from pathlib import Path
from guardrail.errors import FileInUseError
from guardrail.utils.json_lines import json_object
from guardrail.utils.record_store import RecordStore
path, name = Path(sys.argv[1]), sys.argv[2]
try:
    with RecordStore(path, "Choose another.") as store:
        begun = len(store.records(json_object))
        print("begun", flush=True)
        for number in range(begun, int(sys.argv[3])):
            store.append({"number": number, "by": name, "long": "x" * 3000})
except FileInUseError as error:
    print(error, flush=True)
    sys.exit(error.exit_status)
"""


@pytest.fixture
def start():
    """Starts a process that writes records until there are so many."""
    processes = []

    def begin(path, name, count):
        environment = os.environ | {"PYTHONPATH": str(Path(guardrail.__file__).parents[1])}
        command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def numbers(path):
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


def test_of_two_processes_one_writes_and_the_other_is_told_in_a_sentence(start, tmp_path):
    path = tmp_path / "out.jsonl"
    first = start(path, "a", 1_000_000)
    assert first.stdout.readline() == "begun\n"
    second = start(path, "b", 5)
    told, _ = second.communicate(timeout=60)
    assert second.returncode == 3
    assert told == f"{FileInUseError(told.strip())}\n"
    assert told.startswith(f"{path}: another run writes this file")
    # In the middle of a write, whatever it is.
    first.kill()
    first.wait()
    third = start(path, "c", 0)
    assert third.communicate(timeout=60)[0] == "begun\n"
    assert third.returncode == 0


def test_a_process_that_was_killed_is_gone_on_with_and_no_record_is_lost_or_there_twice(start, tmp_path):
    path = tmp_path / "out.jsonl"
    first = start(path, "a", 1_000_000)
    first.stdout.readline()
    while not (path.exists() and path.stat().st_size > 100_000):
        assert first.poll() is None
    first.kill()
    first.wait()
    with path.open("ab") as file:
        file.write(b'{"number": 99')
    whole = path.read_bytes().count(b"\n")
    assert start(path, "b", whole + 5).wait(60) == 0
    assert numbers(path) == list(range(whole + 5))


def test_two_stores_of_one_process_are_two_runs(tmp_path):
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    path.touch()
    link.symlink_to(path)
    with RecordStore(path, "") as store:
        store.append({"a": 1})
        for same in (path, link):
            with pytest.raises(FileInUseError), RecordStore(same, ""):
                pass
    with RecordStore(path, ""):
        pass


def test_nothing_of_a_file_is_changed_before_the_first_record(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a"')
    with RecordStore(path, "") as store:
        assert store.records(json_object) == [{"a": 1}]
        assert path.read_bytes() == b'{"a": 1}\n{"a"'
        store.append({"a": 2})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_last_line_without_its_end_is_kept_where_people_edit_the_file(tmp_path, by_hand):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    with RecordStore(path, "") as store:
        kept = store.records(json_object, by_hand=by_hand)
        store.append({"a": 3})
    assert [json_object(line) for line in path.read_text().splitlines()] == [*kept, {"a": 3}]
    assert len(kept) == 1 + by_hand


@pytest.mark.parametrize("content", [b"Dear diary", b"\xff\xfe", b'{"a": 1', b"[1]\n", b'{"a": NaN}\n'])
def test_a_file_of_something_else_is_refused_by_its_place_and_left_alone(tmp_path, content):
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    place = pytest.raises(RecordError, match=r"out.jsonl .*Choose another\.")
    with RecordStore(path, "Choose another.") as store, place:
        store.records(json_object, ['{"b": 1'])
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", [".", "none/out.jsonl"])
def test_what_cannot_be_written_is_one_sentence(tmp_path, name):
    with pytest.raises(OptionError), RecordStore(tmp_path / name, ""):
        pass
    assert not (tmp_path / "none").exists()


def test_a_device_is_no_file_to_go_on_with(tmp_path):
    link = tmp_path / "out.jsonl"
    link.symlink_to("/dev/null")
    with pytest.raises(GuardrailError), RecordStore(link, "") as store:
        store.append({})

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date

import pytest

from guardrail.errors import EscalationError, InvalidInputError, OptionError
from guardrail.escalation.case import labels
from guardrail.escalation.queue import HumanQueue, queue_path
from tests.support.cases import case_of

# A process that queues cases for as long as it lives and says each ticket once it has it.
WRITER = """
import sys
from guardrail.escalation.queue import HumanQueue
from tests.support.cases import case_of
url, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
queue = HumanQueue(url)
for number in range(first, first + count):
    print(queue.put(case_of(number)), flush=True)
"""


@pytest.fixture
def queue(tmp_path):
    return HumanQueue(f"sqlite:///{tmp_path}/queue.db")


def writer(queue, first, count):
    command = [sys.executable, "-c", WRITER, queue.url, str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_case_comes_back_as_it_was_put(queue):
    ticket = queue.put(case_of())
    item = queue.get(ticket)
    assert item.case == case_of()
    assert (item.ticket, item.status, item.answer, item.text) == (ticket, "waiting", None, None)
    json.dumps(item.as_plain())


def test_the_same_case_put_again_is_there_once(queue):
    assert queue.put(case_of()) == queue.put(case_of())
    assert len(queue.items()) == 1
    with pytest.raises(EscalationError, match="another case"):
        queue.put(case_of(draft="Kleist."))


def test_cases_are_listed_in_the_order_in_which_they_came_whatever_the_clock_said(queue, monkeypatch):
    times = iter(["2031-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"])
    monkeypatch.setattr("guardrail.escalation.queue._now", lambda: next(times))
    queue.put(case_of(2))
    queue.put(case_of(1))
    assert [item.case for item in queue.items()] == [case_of(2), case_of(1)]


@pytest.mark.parametrize(
    ("verdict", "text", "shown"),
    [("approve", None, "Schiller."), ("edit", "Goethe.", "Goethe."), ("reject", None, None)],
)
def test_what_may_be_shown_is_what_the_person_said(queue, verdict, text, shown):
    ticket = queue.put(case_of())
    item = queue.answer(ticket, verdict, text, by="ada")
    assert (item.status, item.text, item.answer.by) == ("answered", shown, "ada")
    assert queue.get(ticket) == item
    assert queue.items("waiting") == []


def test_an_answer_said_again_by_the_same_person_changes_nothing(queue):
    ticket = queue.put(case_of())
    first = queue.answer(ticket, "approve", by="ada")
    assert queue.answer(ticket, "approve", by="ada") == first


@pytest.mark.parametrize(("verdict", "text", "by"), [("reject", None, "ada"), ("approve", None, "bob")])
def test_a_second_answer_is_refused_and_says_who_was_first(queue, verdict, text, by):
    ticket = queue.put(case_of())
    first = queue.answer(ticket, "approve", by="ada")
    with pytest.raises(EscalationError, match="by ada"):
        queue.answer(ticket, verdict, text, by=by)
    assert queue.get(ticket) == first


@pytest.mark.parametrize(
    ("case", "verdict", "text"),
    [
        (case_of(), "edit", None),
        (case_of(), "edit", " \n"),
        (case_of(), "approve", "Goethe."),
        (case_of(), "maybe", None),
        (case_of(draft=" "), "approve", None),
    ],
)
def test_what_is_no_answer_to_a_case_leaves_it_waiting(queue, case, verdict, text):
    ticket = queue.put(case)
    with pytest.raises(OptionError):
        queue.answer(ticket, verdict, text, by="ada")
    assert queue.get(ticket).status == "waiting"


def test_a_ticket_may_be_cut_short_while_it_is_clear_which_is_meant(queue):
    queue.put(case_of(id="abcd1" + "0" * 27))
    queue.put(case_of(id="abcd2" + "0" * 27))
    assert queue.get("abcd1").ticket == "abcd1" + "0" * 27
    for unclear in ("abcd", "abc", "", "%", "abcd3"):
        with pytest.raises(InvalidInputError):
            queue.get(unclear)


def test_a_queue_that_is_not_there_is_not_made_by_looking(queue):
    with pytest.raises(InvalidInputError, match="no queue"):
        queue.items()
    assert not queue.path.exists()


def test_the_file_is_its_owners_alone(queue):
    before = os.umask(0)
    try:
        queue.put(case_of())
    finally:
        os.umask(before)
    for path in queue.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize(
    "url",
    ["", "guardrail.db", "sqlite:///", "sqlite://", "sqlite:///:memory:", "postgresql:///q", "sqlite:///a/"],
)
def test_what_is_no_queue_is_refused_by_its_url(url):
    with pytest.raises(OptionError, match="sqlite:///guardrail"):
        HumanQueue(url)


def test_a_url_names_a_file_here_or_from_the_root():
    assert str(queue_path("sqlite:///q.db")) == "q.db"
    assert str(queue_path("sqlite:////var/q?x#.db")) == "/var/q?x#.db"


def test_any_name_of_a_file_will_do(tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/a b?mode=memory#ü%20.db")
    queue.put(case_of())
    assert len(queue.items()) == 1
    assert queue.path.stat().st_size


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    text = tmp_path / "text.db"
    text.write_text("no database at all, but long enough to be looked at" * 20)
    newer = HumanQueue(f"sqlite:///{tmp_path}/newer.db")
    newer.make()
    with sqlite3.connect(newer.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for path in (other, text, newer.path):
        content = path.read_bytes()
        with pytest.raises(EscalationError, match=path.name):
            HumanQueue(f"sqlite:///{path}").put(case_of())
        assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["missing/queue.db", "."])
def test_a_place_where_nothing_can_be_written_is_an_error_of_escalation(tmp_path, name):
    with pytest.raises(EscalationError):
        HumanQueue(f"sqlite:///{tmp_path}/{name}").put(case_of())


def test_what_is_no_json_is_queued_as_text(queue):
    queue.put(case_of(messages=[{"role": "user", "content": "Who?", "sent": {date(2026, 1, 31)}}]))
    (item,) = queue.items()
    assert item.case.messages == [{"role": "user", "content": "Who?", "sent": ["2026-01-31"]}]


def test_a_case_that_was_damaged_is_an_error_and_no_other_case(queue):
    ticket = queue.put(case_of())
    with sqlite3.connect(queue.path) as connection:
        connection.execute("UPDATE cases SET record = '{}'")
    connection.close()
    with pytest.raises(EscalationError, match="cannot be read"):
        queue.get(ticket)


def test_a_full_disk_gives_no_ticket_and_harms_no_other_case(queue):
    tickets = [queue.put(case_of(number)) for number in range(3)]
    code = (
        "import resource, sys\n"
        "from guardrail.escalation.queue import HumanQueue\n"
        "from tests.support.cases import case_of\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "print(HumanQueue(sys.argv[1]).put(case_of(9, draft='x' * 1_000_000)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, queue.url], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("guardrail.errors.EscalationError")
    assert [item.ticket for item in queue.items()] == tickets


def test_a_writer_that_holds_the_file_too_long_is_an_error_and_no_ticket(queue):
    queue.make()
    impatient = HumanQueue(queue.url, busy_timeout_s=0.05)
    connection = sqlite3.connect(queue.path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(EscalationError, match="locked"):
        impatient.put(case_of())
    assert impatient.items() == []
    connection.execute("ROLLBACK")
    connection.close()
    impatient.put(case_of())


def test_a_queue_that_is_made_waits_for_who_looks_at_the_file(queue):
    queue.path.touch(0o600)
    reader = sqlite3.connect(queue.path, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
    with pytest.raises(EscalationError, match="locked"):
        HumanQueue(queue.url, busy_timeout_s=0.05).put(case_of())
    timer = threading.Timer(0.1, lambda: reader.execute("COMMIT"))
    timer.start()
    assert queue.put(case_of()) == case_of().id
    timer.join()
    reader.close()


def test_many_threads_may_begin_one_queue_at_once(queue):
    with ThreadPoolExecutor(24) as pool:
        tickets = list(pool.map(queue.put, map(case_of, range(24))))
    assert sorted(item.ticket for item in queue.items()) == tickets


def test_several_processes_may_write_at_once(queue):
    processes = [writer(queue, first, 30) for first in (0, 100, 200)]
    told = [ticket for process in processes for ticket in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(told) == 90
    assert sorted(told) == sorted(item.ticket for item in queue.items())


def test_of_two_who_answer_at_once_one_is_first_and_the_other_is_told(queue):
    ticket = queue.put(case_of())
    outcomes = []

    def say(by):
        try:
            outcomes.append(queue.answer(ticket, "approve", by=by).answer.by)
        except EscalationError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=say, args=(name,)) for name in ("ada", "bob", "cyd", "dan")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = queue.get(ticket).answer.by
    assert outcomes.count(first) == 1
    assert sum(f"by {first}" in outcome for outcome in outcomes) == 3


def test_a_process_that_is_killed_loses_nothing_that_it_said_was_queued(queue):
    told = []
    for attempt in range(8):
        process = writer(queue, attempt * 10_000, 10_000)
        told.append(process.stdout.readline().strip())
        # At another moment of the write each time.
        time.sleep(0.011 * attempt)
        process.send_signal(signal.SIGKILL)
        # The last line may be cut off: it was not said.
        told.extend(line.strip() for line in process.stdout if line.endswith("\n"))
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        there = {item.ticket for item in queue.items()}
        assert set(told) <= there
    assert len(told) > 8
    assert queue.get(told[0]).case == case_of(0)


def test_labels_say_whether_the_models_own_draft_was_right(queue):
    for number in range(5):
        queue.put(case_of(number))
    queue.put(case_of(5, draft="", finish_reason=None))
    queue.answer(case_of(0).id, "approve", by="ada")
    queue.answer(case_of(1).id, "edit", "Goethe.", by="ada")
    queue.answer(case_of(2).id, "reject", by="ada")
    queue.answer(case_of(5).id, "edit", "Goethe.", by="ada")
    lines = list(labels(queue.items()))
    assert [line["correct"] for line in lines] == [True, False, False]
    assert [line["response"] for line in lines] == ["Schiller."] * 3
    assert [line.get("correction") for line in lines] == [None, "Goethe.", None]
    assert lines[0]["messages"] == list(case_of().messages)
    assert lines[0]["finish_reason"] == "stop"


def test_a_case_keeps_what_was_said_out_of_its_repr():
    assert "Faust" not in repr(case_of())
    assert "Schiller" not in repr(replace(case_of(), rule="other"))

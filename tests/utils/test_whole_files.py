"""Whole files appear whole or not at all, whoever else writes them, and every writer of one passes here."""

import ast
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import demo_app
import guardrail
from guardrail.errors import OptionError, ProfileError
from guardrail.utils.files import publish_folder, whole_file, write_whole

# Of these, nothing outlives the run or the folder that is published as a whole; the log is appended to.
SCRATCH = {"models/files/downloads.py"}
APPENDING = {"guard/decision_log.py", "escalation/queue.py"}


def test_a_file_is_replaced_with_its_mode_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text("old")
    path.chmod(0o640)
    write_whole(path, "ä\r\n")
    assert path.read_bytes() == "ä\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["profile.json"]


def test_a_new_file_is_as_open_as_the_user_wants_files_to_be(tmp_path):
    (tmp_path / "other").touch()
    write_whole(tmp_path / "new", b"")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_what_fails_half_way_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "page.html"
    path.write_text("old")

    def write_half():
        with whole_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(OptionError if error is OSError else error):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_link_stays_one_and_a_device_is_written_to(tmp_path):
    target, link, null = tmp_path / "target", tmp_path / "link", tmp_path / "null"
    target.write_text("old")
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    null.symlink_to("/dev/null")
    write_whole(null, "gone")
    assert Path("/dev/null").is_char_device()


def test_the_error_is_the_callers_and_names_the_file(tmp_path):
    for name in ("none/profile.json", "."):
        with pytest.raises(ProfileError, match=r"cannot be written: .+\."):
            write_whole(tmp_path / name, "x", ProfileError)


def test_many_writers_of_one_file_leave_one_of_their_texts(tmp_path):
    path = tmp_path / "page.html"
    texts = [f"{at}" * 200_000 for at in range(6)]
    threads = [threading.Thread(target=write_whole, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_writer_that_is_killed_leaves_the_file_before_it(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text("old")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from guardrail.utils.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(guardrail.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code, path], env=environment).returncode == -9
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: events.append("sync") or fsync(file))
    monkeypatch.setattr(Path, "replace", lambda one, other: events.append("name") or replace(one, other))
    write_whole(tmp_path / "a", "x")
    assert events == ["sync", "name", "sync"]
    made = tmp_path / "made"
    made.mkdir()
    (made / "weights").write_bytes(b"x")
    publish_folder(made, tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_bytes() == b"x"
    assert events.count("sync") == 5


def _writes(call):
    """Whether a call opens a file for writing, or writes one."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("write_text", "write_bytes", "mkstemp", "NamedTemporaryFile"):
        return True
    given = [one for argument in (*call.args, *call.keywords) for one in ast.walk(argument)]
    texts = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return name == "open" and any(set(text) <= set("rwaxb+t") and set(text) & set("wax+") for text in texts)


def test_no_writer_of_a_file_passes_by():
    found = set()
    for package in (guardrail, demo_app):
        root = Path(package.__file__).parent
        for path in root.rglob("*.py"):
            calls = [one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Call)]
            if any(map(_writes, calls)):
                found.add(str(path.relative_to(root)))
    assert found - SCRATCH - APPENDING == {"utils/files.py", "utils/record_store.py"}

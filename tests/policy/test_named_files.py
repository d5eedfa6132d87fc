"""What a policy or a command names is a regular file of a sensible size; for no other is waited."""

import os
import socket
import threading

import pytest

from guardrail.calibration.profile import read_profile
from guardrail.errors import PolicyError, ProfileError
from guardrail.policy.dry_run import read_cases
from guardrail.policy.load import check_policy, load_policy
from guardrail.utils.files import check_regular, read_regular

RULES = "rules: [{id: default, action: abstain}]\n"
KINDS = ["pipe", "socket", "device", "endless", "folder", "huge", "link to a pipe", "loop"]


@pytest.fixture
def odd(tmp_path, monkeypatch, request):
    """A place that is no regular file."""
    monkeypatch.chdir(tmp_path)
    kind, path = request.param, tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("odd")
    elif kind in ("device", "endless"):
        path.symlink_to("/dev/null" if kind == "device" else "/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    return path


def within(seconds, run):
    """What a call gives, which must not hang."""
    given = []
    thread = threading.Thread(target=lambda: given.append(run()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert given, "it hangs"
    return given[0]


@pytest.mark.parametrize("odd", KINDS, indirect=True)
@pytest.mark.parametrize("key", ["extends", "profile"])
def test_a_policy_that_names_no_regular_file_is_refused_where_it_names_it(odd, tmp_path, key):
    (tmp_path / "p.yaml").write_text(f"version: 1\nname: p\n{key}: odd\n{RULES}")
    checked = within(10, lambda: check_policy("p.yaml"))
    assert checked.policy is None
    assert any(str(one).startswith(f"p.yaml:3:{len(key) + 3} {key}: ") for one in checked.mistakes)


@pytest.mark.parametrize("odd", KINDS, indirect=True)
def test_no_regular_file_is_a_policy_a_profile_or_a_file_of_cases(odd):
    def refused(read, error):
        with pytest.raises(error) as raised:
            read(odd)
        return str(raised.value)

    for read, error in ((load_policy, PolicyError), (read_profile, ProfileError), (read_cases, PolicyError)):
        said = within(10, lambda read=read, error=error: refused(read, error))
        assert "\n" not in said
        assert "odd" in said


def test_what_has_no_size_is_read_no_further_than_is_asked_for(tmp_path):
    # Files that the system makes up as they are read say that they are empty.
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_regular(tmp_path.__class__("/proc/self/maps"), 10)
    (tmp_path / "ten").write_bytes(b"0123456789")
    assert read_regular(tmp_path / "ten", 10) == b"0123456789"


def test_nothing_is_opened_that_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    opened = []

    def write():
        with (tmp_path / "pipe").open("wb"):
            opened.append(True)

    threading.Thread(target=write, daemon=True).start()
    for look in (lambda: read_regular(tmp_path / "pipe", 10), lambda: check_regular(tmp_path / "pipe")):
        with pytest.raises(OSError, match="it is a pipe"):
            look()
    assert not opened
    with (tmp_path / "pipe").open("rb"):  # lets the writer end
        pass


def test_a_place_where_nothing_is_yet_may_become_a_file(tmp_path):
    check_regular(tmp_path / "new")


def test_a_profile_is_read_by_the_name_of_its_file(tmp_path):
    from guardrail.calibration.profile import write_profile
    from tests.support.profiles import a_profile

    write_profile(a_profile(), str(tmp_path / "p.json"))
    assert read_profile(str(tmp_path / "p.json")) == read_profile(tmp_path / "p.json")

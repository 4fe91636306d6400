"""One process at a time in a folder, also where only the file in it is seen, as from another machine."""

import errno
import fcntl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resattn.data.locking import LOCK, locked

HOLD = """
import sys, pathlib
from resattn.data.locking import locked
with locked(pathlib.Path(sys.argv[1]), when_busy=sys.argv[2]) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(modules_alone: str) -> Callable[[Path, str], subprocess.Popen[str]]:
    """Starts a process that holds a folder until it is told to end."""

    def start(folder: Path, when_busy: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", modules_alone + HOLD, str(folder), when_busy],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_one_process_at_a_time_and_nothing_is_left_behind(holder, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    first = holder(folder, "leave")
    assert first.stdout is not None and first.stdout.readline() == "True\n"
    with locked(folder, when_busy="leave") as free:
        assert not free
    second = holder(folder, "wait")
    assert second.stderr is not None and "is at work in" in second.stderr.readline()
    (folder / "kept").touch()
    first.communicate("")
    assert second.communicate("")[0] == "True\n"
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_process_that_was_killed_holds_nothing(holder, tmp_path: Path) -> None:
    killed = holder(tmp_path, "leave")
    assert killed.stdout is not None and killed.stdout.readline() == "True\n"
    killed.kill()
    killed.communicate()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path, when_busy="leave") as free:
        assert free
    assert not (tmp_path / LOCK).exists()


def test_the_file_alone_is_a_lock(holder, tmp_path: Path) -> None:
    """A machine beyond a network file system sees no lock of a folder."""
    with (tmp_path / LOCK).open("w") as of_another_machine:
        fcntl.flock(of_another_machine, fcntl.LOCK_EX)
        with locked(tmp_path, when_busy="leave") as free:
            assert not free
        waiting = holder(tmp_path, "wait")
        assert waiting.stderr is not None and "is at work in" in waiting.stderr.readline()
        (tmp_path / LOCK).unlink()
        (tmp_path / "kept").touch()
    assert waiting.communicate("")[0] == "True\n"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("content", [False, True])
def test_a_folder_stays_where_something_is_in_it(tmp_path: Path, content: bool) -> None:
    folder = tmp_path / "new"
    with locked(folder):
        if content:
            (folder / "file").touch()
    assert folder.exists() == content


def test_a_file_system_without_locks_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr("resattn.data.locking._told", set())
    for name in ("a", "b"):
        with locked(tmp_path / name, when_busy="leave") as free:
            assert free
    assert capsys.readouterr().err.count("has no locks (flock)") == 1

"""One writer at a time for a folder, of this machine's processes and of others', without leaving a lock file behind."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from resattn.files import unfinished

try:
    import fcntl
except ImportError:  # Windows: writing one data set twice at the same moment is the user's to avoid there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class _Busy(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(folder: Path, *, when_busy: Literal["wait", "leave"] = "wait") -> Iterator[bool]:
    """Hold the exclusive lock of `folder` (made if it is absent); yields whether the caller may go on.

    The lock is `flock` on the folder itself, which the processes of this machine see, and on a file `.lock` in it,
    which a network file system shows to other machines too. The system drops both when the process dies, however it
    dies. At the end the file is removed, and the folder where nothing else is in it. With "leave" a folder that another
    process holds yields False at once; with "wait" it waits and says so. File systems without locks yield True, which
    is told once. Raises OSError where the folder cannot be made.
    """
    try:
        held = _acquire(folder, when_busy)
    except _Busy:
        yield False
        return
    with held:
        yield True


def _acquire(folder: Path, when_busy: Literal["wait", "leave"]) -> ExitStack:
    """What holds both locks until it is closed; raises _Busy where another process has one and is not waited for."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            return ExitStack()
        # What is not found was removed by its last holder in the meantime.
        with ExitStack() as held, suppress(FileNotFoundError):
            held.callback(os.close, _descriptor(folder, os.O_RDONLY, when_busy))
            held.callback(_remove_if_empty, folder)
            _hold_file(folder / LOCK, held, when_busy)
            return held.pop_all()


def _hold_file(file: Path, held: ExitStack, when_busy: Literal["wait", "leave"]) -> None:
    try:
        held.callback(os.close, _descriptor(file, os.O_RDWR | os.O_CREAT, when_busy))
    except FileNotFoundError:
        raise
    except OSError:  # no file can be made there: the folder's own lock has to do
        return
    held.enter_context(unfinished(file))
    held.callback(_remove, file)


def _descriptor(path: Path, flags: int, when_busy: Literal["wait", "leave"]) -> int:
    """An open descriptor that holds the lock of `path`; FileNotFoundError where that is another file by then."""
    descriptor = os.open(path, flags, 0o666)
    try:
        _flock(descriptor, path, when_busy)
        _require_still(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _flock(descriptor: int, path: Path, when_busy: Literal["wait", "leave"]) -> None:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            if when_busy == "leave":
                raise _Busy from busy
            folder = path.parent if path.name == LOCK else path
            print(f"another process is at work in {folder}; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno == errno.ESTALE:  # removed by another machine
            raise FileNotFoundError from error
        _tell_of_no_locks(os.fstat(descriptor).st_dev, path)


_told: set[int] = set()


def _tell_of_no_locks(device: int, path: Path) -> None:
    """Once for each file system."""
    if device in _told:
        return
    _told.add(device)
    print(
        f"note: the file system of {path} has no locks (flock): two processes at work there would not see each other",
        file=sys.stderr,
        flush=True,
    )


def _require_still(descriptor: int, path: Path) -> None:
    """Raise FileNotFoundError unless what is locked is what lies under that name (it may have been removed meanwhile).

    The name is opened anew: what a network file system remembers of it may be old.
    """
    again = os.open(path, os.O_RDONLY)
    try:
        held, now = os.fstat(descriptor), os.fstat(again)
    finally:
        os.close(again)
    if (held.st_dev, held.st_ino) != (now.st_dev, now.st_ino):
        raise FileNotFoundError


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()

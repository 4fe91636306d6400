"""One writer at a time for a folder, without leaving a lock file behind."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

try:
    import fcntl
except ImportError:  # Windows: writing one data set twice at the same moment is the user's to avoid there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path, *, when_busy: Literal["wait", "leave"] = "wait") -> Iterator[bool]:
    """Hold the exclusive lock of `folder` (made if it is absent); yields whether the caller may go on.

    The lock is `flock` on the folder itself, so the system drops it when the process dies, however it dies.
    With "leave" a folder that another process holds yields False at once; with "wait" it waits and says so
    once. File systems without locks yield True. Raises OSError where the folder cannot be made.
    """
    descriptor = _acquire(folder, when_busy)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)


def _acquire(folder: Path, when_busy: Literal["wait", "leave"]) -> int | None:
    """An open descriptor that holds the lock, -1 where there are no locks, None where another holds it."""
    if fcntl is None:
        folder.mkdir(parents=True, exist_ok=True)
        return -1
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # its last holder removed the empty folder between the two lines
            continue
        try:
            if not _flock(descriptor, folder, when_busy):
                os.close(descriptor)
                return None
            if _is_still(descriptor, folder):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int, folder: Path, when_busy: Literal["wait", "leave"]) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if when_busy == "leave":
            return False
        print(f"another process is at work in {folder}; waiting for it", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a network file system without flock
        return True
    return True


def _is_still(descriptor: int, folder: Path) -> bool:
    """Whether the locked folder is the one now under that name (it may have been removed while we waited)."""
    try:
        now = folder.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (held.st_dev, held.st_ino) == (now.st_dev, now.st_ino)

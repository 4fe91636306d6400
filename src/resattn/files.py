"""Files that are there whole or not at all, and failures to write them told in words."""

import glob
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from resattn.errors import CannotWrite

_unfinished: set[Path] = set()
# Process numbers say nothing about the processes of other machines, which may share the folder. A hash is short.
_MACHINE = hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """During the block, `path` is to go where a signal ends the process; see `remove_unfinished`."""
    _unfinished.add(path)
    try:
        yield
    finally:
        _unfinished.discard(path)


def remove_unfinished() -> None:
    """Remove the files and folders that are being written at this moment, because the process ends."""
    for path in tuple(_unfinished):
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink()


def is_file(path: Path | str) -> bool:
    """Whether a file lies there; False too for what no file can be called, at which pathlib raises."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_there(path: Path | str) -> bool:
    """Whether anything lies there, or it cannot be told; False too for what nothing can be called."""
    try:
        return Path(path).exists()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def is_folder(path: Path | str) -> bool:
    """Whether a folder lies there; False too for what no folder can be called, at which pathlib raises."""
    try:
        return expanded(path).is_dir()
    except (OSError, ValueError):
        return False


def expanded(path: Path | str) -> Path:
    """The path with the home folder in place of ~; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes its place at the end, or vanishes.

    Missing folders are made; the contents are on the disk before the name is. What a killed process of this machine
    left of the same file is removed. Raises CannotWrite, naming `path`, where the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{_MACHINE}.{os.getpid()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        with unfinished(temporary):
            try:
                yield temporary
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into CannotWrite."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotWrite(
            f"cannot write {path}: {reason}", "make room there, or choose another place"
        ) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there; CannotWrite where that cannot be."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole_text_file(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that takes the place of `path` when the block ends; see `whole_file`."""
    # File names that are no valid Unicode hold lone surrogates; they leave as the bytes they were.
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def _clear_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` whose process, on this machine, is no more."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{_MACHINE}.*.partial"):
        pid = leftover.name.split(".")[-2]
        if pid.isdigit() and not _runs(int(pid)):
            leftover.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's, or the system cannot tell
        return True
    return True

"""Files that are on the disk once written, and failures of the disk told in words."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resattn.errors import CannotWrite

NPY_HEADER_BYTES = 128
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of writing below `path` into CannotWrite, which says what to do about it."""
    try:
        yield
    except OSError as error:
        what = f"could not write {error.filename or path}: {error.strerror or error}"
        full = error.errno in _FULL_DISK
        mend = make_room(path) if full else "set RESATTN_HOME to a folder that you can write to"
        raise CannotWrite(what, mend) from error


def make_room(path: Path) -> str:
    """The mend of a full disk."""
    return (
        f"make room on the disk of {path}, or set RESATTN_HOME to a folder on a larger one, and run it again"
    )


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create(path: Path) -> BinaryIO:
    """Open `path` for writing, with a large buffer: images are small and many."""
    return path.open("wb", buffering=1 << 20)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file of uint8 in C order: always 128 bytes, so it can be rewritten in place."""
    fields = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode("ascii")
    start = b"\x93NUMPY\x01\x00" + (NPY_HEADER_BYTES - 10).to_bytes(2, "little")
    return (start + fields).ljust(NPY_HEADER_BYTES - 1) + b"\n"


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file and sync it."""
    with create(path) as file:
        np.save(file, array, allow_pickle=False)
        sync(file)


def save_json(path: Path, content: object) -> None:
    """Write a JSON file and sync it; names that are no valid Unicode survive as lone surrogates."""
    with create(path) as file:
        file.write(json.dumps(content, indent=1 if isinstance(content, dict) else None).encode("ascii"))
        sync(file)


def sync(file: BinaryIO) -> None:
    """Return once the file's bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync the folder's entries, where the system can open a folder at all (Windows cannot)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

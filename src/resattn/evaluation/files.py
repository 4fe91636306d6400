"""Text files that are there whole or not at all, and failures to write told in words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from resattn.errors import ResattnError


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that takes the place of `path` when the block ends, and vanishes when it raises.

    Missing folders are made. Raises ResattnError, naming `path`, where the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # File names that are no valid Unicode hold lone surrogates; they leave as the bytes they were.
            with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into a ResattnError that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResattnError(
            f"cannot write {path}: {reason}", "make room there, or choose another place"
        ) from error

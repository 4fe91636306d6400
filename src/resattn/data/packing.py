"""Writing a packed data set: all of it appears at once, or none of it.

Layout of one prepared data set (NAME is a folder of the data root):

    NAME/dataset.json              what it is, its classes, its splits, and which packed folder is current
    NAME/packed-XXXX/train/        images.npy  uint8 N x H x W x 3, RGB
                                   labels.npy  int64 N, -1 where unlabelled
                                   boxes.npy   float32 N x 4, xyxy pixel edges, NaN rows without a box
                                   file_names.json

A writer fills the hidden folder NAME/.preparing-XXXX, syncs it to disk, renames it to packed-XXXX and then
replaces dataset.json in one step: that replacement is the only moment at which the data set changes. What no
dataset.json names is a leftover, and is removed by the next prepare.

Images are written with write(2), not through a memory map: on a full disk a map kills the process with
SIGBUS, where a write fails with an error that can be told.
"""

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from resattn import home
from resattn.data.durable import (
    NPY_HEADER_BYTES,
    create,
    disk_errors,
    file_sha256,
    make_room,
    npy_header,
    save_array,
    save_json,
    sync,
    sync_folder,
)
from resattn.data.locking import locked
from resattn.errors import ResattnError
from resattn.files import unfinished
from resattn.version import __version__

FORMAT = 1
DESCRIPTION = "dataset.json"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PACKED_PATTERN = re.compile(r"packed-[0-9a-f]{8}")
_TEMPORARY = ".preparing-"


@dataclass(frozen=True)
class PreparedReport:
    """What one `prepare` made: counts by split, what it skipped (file and reason) and what is worth knowing.

    `path` is the data set's folder; `boxes` counts the images that have one; `seconds` is wall time.
    """

    name: str
    path: Path
    classes: int
    images: Mapping[str, int]
    boxes: Mapping[str, int]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


class SplitWriter:
    """One split being written: images go to disk as they come, the rest is held until the end."""

    def __init__(self, folder: Path, *, height: int, width: int, boxes: Literal["with", "without"]) -> None:
        self._folder, self._shape = folder, (height, width, 3)
        self._labels: list[int] = []
        self._names: list[str] = []
        self._boxes: list[Sequence[float]] | None = [] if boxes == "with" else None
        self.images_path = folder / "images.npy"
        folder.mkdir(parents=True)
        self._file: BinaryIO = create(self.images_path)
        self._file.write(bytes(NPY_HEADER_BYTES))

    def add(
        self, image: NDArray[np.uint8], *, label: int, file_name: str, box: Sequence[float] | None = None
    ) -> None:
        """Append one image (uint8 H x W x 3), its class index (-1: unlabelled) and box (xyxy edges)."""
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(
                f"{file_name}: a {image.dtype} image of shape {image.shape}, not uint8 {self._shape}"
            )
        with disk_errors(self.images_path):
            self._file.write(np.ascontiguousarray(image).data)
        self._labels.append(label)
        self._names.append(file_name)
        if self._boxes is not None:
            self._boxes.append((np.nan,) * 4 if box is None else box)

    def close(self) -> dict[str, Any]:
        """Complete and sync the files; returns the split's entry of dataset.json."""
        labels = np.asarray(self._labels, dtype=np.int64)
        entry: dict[str, Any] = {"images": len(labels), "height": self._shape[0], "width": self._shape[1]}
        with disk_errors(self.images_path), self._file as file:
            file.seek(0)
            file.write(npy_header((len(labels), *self._shape)))
            sync(file)
        with disk_errors(self._folder):
            save_array(self._folder / "labels.npy", labels)
            if self._boxes is not None:
                boxes = np.asarray(self._boxes, dtype=np.float32).reshape(-1, 4)
                save_array(self._folder / "boxes.npy", boxes)
                entry["boxes"] = int(np.isfinite(boxes).all(axis=1).sum())
            save_json(self._folder / "file_names.json", self._names)
            entry["images_sha256"] = file_sha256(self.images_path)
            sync_folder(self._folder)
        return entry

    def abandon(self) -> None:
        """Let go of the file without completing it: what is still buffered need not be written."""
        with suppress(OSError):
            self._file.close()


class PackedWriter:
    """Writes one packed data set under the data root; a context manager.

    Nothing is visible before `finish`, which replaces an older data set of that name in one step. Leaving the block
    without it (an exception, Ctrl-C) removes all that was written; what a killed process left is removed by the next
    writer. `command` is the command line that prepares this data again; `started`, of time.monotonic(), is when the
    preparation began (default: now). Raises ResattnError where the disk is full or the folder cannot be written.
    """

    def __init__(
        self,
        name: str,
        *,
        class_ids: Sequence[str],
        class_names: Sequence[str],
        command: str,
        root: Path | None = None,
        started: float | None = None,
    ) -> None:
        check_name(name)
        if list(class_ids) != sorted(set(class_ids)) or len(class_ids) != len(class_names):
            raise ValueError("class_ids must be sorted, unique and as many as class_names")
        self._root = home.data_root() if root is None else root
        self._folder = self._root / name
        self._temporary = self._folder / f"{_TEMPORARY}{secrets.token_hex(4)}"
        self._description: dict[str, Any] = {"format": FORMAT, "name": name, "command": command}
        self._description |= {"class_ids": list(class_ids), "class_names": list(class_names), "splits": {}}
        self._started = time.monotonic() if started is None else started
        self._held = ExitStack()

    def __enter__(self) -> Self:
        try:
            with disk_errors(self._folder):
                self._held.enter_context(locked(self._folder))
                self._held.callback(_discard, self._folder)
                _remove_leftovers(self._root, ours=self._folder)
                self._held.enter_context(unfinished(self._temporary))
                self._temporary.mkdir()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @contextmanager
    def split(
        self,
        split: str,
        *,
        size: tuple[int, int],
        expected_images: int,
        boxes: Literal["with", "without"] = "without",
    ) -> Iterator[SplitWriter]:
        """Write one split of images of `size` (height, width); refuses at once what cannot fit."""
        height, width = size
        self._check_space(expected_images * height * width * 3)
        with disk_errors(self._temporary):
            writer = SplitWriter(self._temporary / split, height=height, width=width, boxes=boxes)
        try:
            yield writer
            self._description["splits"][split] = writer.close()
        finally:
            writer.abandon()

    def finish(
        self, *, source: str, source_sha256: str, notes: Sequence[str] = (), skipped: Sequence[str] = ()
    ) -> PreparedReport:
        """Make the data set visible and report it; `source_sha256` identifies what it was made from."""
        packed = f"packed-{secrets.token_hex(4)}"
        description = self._description | {"source": source, "source_sha256": source_sha256, "packed": packed}
        description |= {"notes": list(notes), "skipped": list(skipped), "made_by": f"resattn {__version__}"}
        with disk_errors(self._folder):
            sync_folder(self._temporary)
            self._temporary.rename(self._folder / packed)
            save_json(self._folder / f"{_TEMPORARY}{DESCRIPTION}", description)
            (self._folder / f"{_TEMPORARY}{DESCRIPTION}").replace(self._folder / DESCRIPTION)
            sync_folder(self._folder)
        splits = description["splits"]
        return PreparedReport(
            name=description["name"],
            path=self._folder,
            classes=len(description["class_ids"]),
            images={split: entry["images"] for split, entry in splits.items()},
            boxes={split: entry.get("boxes", 0) for split, entry in splits.items()},
            skipped=tuple(skipped),
            notes=tuple(notes),
            seconds=time.monotonic() - self._started,
        )

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise ResattnError(
                f"{self._folder}: the disk has {free / 1e6:,.0f} MB free, this takes {needed / 1e6:,.0f} MB",
                make_room(self._folder),
            )


def check_name(name: str) -> None:
    """Raise ResattnError unless `name` can be the name of a data set, which is also the name of a folder."""
    if not NAME_PATTERN.fullmatch(name):
        raise ResattnError(
            f"{name!r} cannot be the name of a data set",
            "choose letters, digits, '.', '_' and '-', beginning with a letter or digit, 64 at most",
        )


def _remove_leftovers(root: Path, *, ours: Path) -> None:
    """Remove what killed runs left under `root`; the caller holds the lock of `ours`."""
    _remove_unreferenced(ours)
    for folder in root.iterdir():
        if folder != ours and any(folder.glob(f"{_TEMPORARY}*")):
            with locked(folder, when_busy="leave") as free:
                if free:
                    _discard(folder)


def _discard(folder: Path) -> None:
    """Remove what is unreferenced, and the folder itself where nothing is left in it."""
    _remove_unreferenced(folder)
    with suppress(OSError):  # it holds a data set
        folder.rmdir()


def _remove_unreferenced(folder: Path) -> None:
    """Remove what the folder's dataset.json does not name: leftovers, and the data set that was replaced."""
    try:
        current = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["packed"]
        stale = [path for path in folder.glob("packed-*") if path.name != current]
    except FileNotFoundError:
        stale = list(folder.glob("packed-*"))
    except (OSError, ValueError, KeyError, TypeError):  # a damaged description: what it named cannot be told
        stale = []
    for path in [*stale, *folder.glob(f"{_TEMPORARY}*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

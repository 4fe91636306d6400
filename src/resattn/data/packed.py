"""The packed split: uint8 images, labels, boxes and class names, memory-mapped and shared by every process.

How it lies on disk is said in `resattn.data.packing`, which writes it.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resattn import home
from resattn.data.durable import disk_errors, file_sha256
from resattn.data.held_out import HELD_OUT, KEPT, held_out_rows
from resattn.data.image_rows import ImageRows
from resattn.data.locking import locked
from resattn.data.packing import (
    DESCRIPTION,
    FORMAT,
    NAME_PATTERN,
    PACKED_PATTERN,
    PackedWriter,
    PreparedReport,
)
from resattn.data.shapes import prepare_shapes
from resattn.errors import ResattnError
from resattn.files import is_folder

__all__ = [
    "PackedSplit",
    "PackedWriter",
    "PreparedReport",
    "available_splits",
    "open_split",
    "prepared_data_sets",
    "verify",
]

PREPARE_COMMANDS: Mapping[str, str] = {
    "tiny-imagenet": "resattn prepare tiny-imagenet --download (or --archive FILE)",
    "cifar10": "resattn prepare cifar10 --download (or --archive FILE)",
    "cifar100": "resattn prepare cifar100 --download (or --archive FILE)",
    "shapes": "resattn prepare shapes",
}


@dataclass(frozen=True, eq=False)
class PackedSplit:
    """One split of a prepared data set; the images stay on disk and are read as they are touched.

    images: uint8, N x H x W x 3, RGB, memory-mapped, read-only. labels: int64, N, -1 where the split is
    unlabelled. boxes: float32, N x 4, xyxy in pixels, edges (x1 and y1 exclusive, so a whole 64x64 image is
    0, 0, 64, 64), NaN rows for images without a box, or None where the source has no boxes. file_names: the
    image's own file name. class_ids are sorted and label k is class_ids[k]; class_names are the readable
    names in the same order. source_sha256 identifies what the data set was made from. Pickling passes the
    images as a path: the process that unpickles maps the same file.
    """

    data: str
    split: str
    images: NDArray[np.uint8] | ImageRows
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32] | None
    file_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    source_sha256: str

    def __reduce__(self) -> Any:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(self.images, np.memmap) and self.images.filename is not None:
            values["images"] = Path(self.images.filename)
        return _restore, (values,)

    def select(self, rows: NDArray[np.int64], *, name: str) -> "PackedSplit":
        """Some of the images, by number, as a split called `name`; the images are read as they are touched."""
        return replace(
            self,
            split=name,
            images=ImageRows(self.images, rows),
            labels=self.labels[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            file_names=tuple(self.file_names[row] for row in rows),
        )


def open_split(data: str, split: str = "train", *, root: Path | None = None) -> PackedSplit:
    """Open one split of a prepared data set; "shapes" is drawn on first use.

    "held-out" is the 5 % of "train" that tuning validates on, "kept" the rest (`resattn.data.held_out`).
    `root` is the folder of prepared data (default: `home.data_root()`). Raises ResattnError where the data
    set is not prepared (with the command that prepares it), has no such split, or has a damaged file (by
    name).
    """
    if split in (KEPT, HELD_OUT):
        whole = open_split(data, "train", root=root)
        held = held_out_rows(whole.labels, whole.file_names)
        return whole.select(np.flatnonzero(held if split == HELD_OUT else ~held), name=split)
    folder = (home.data_root() if root is None else root) / data
    description = _description(data, root)
    for _ in range(2):
        if split not in description["splits"]:
            raise ResattnError(
                f"{data} has no split {split!r}",
                f"choose one of: {', '.join([*description['splits'], KEPT, HELD_OUT])}",
            )
        try:
            return _open(folder / description["packed"] / split, split, description)
        except FileNotFoundError as error:
            # Another process may have replaced the data set between the two reads.
            latest = _description(data, root)
            if latest["packed"] == description["packed"]:
                raise _damaged(Path(error.filename), "is missing", description) from error
            description = latest
    raise ResattnError(f"{folder}: is being replaced again and again by another process", "try again")


def available_splits(data: str, *, root: Path | None = None) -> tuple[str, ...]:
    """The names of the splits of a prepared data set; raises ResattnError as `open_split` does."""
    return tuple(_description(data, root)["splits"])


def prepared_data_sets(*, root: Path | None = None) -> tuple[str, ...]:
    """The names of the data sets that are prepared under `root`, sorted."""
    root = home.data_root() if root is None else root
    return tuple(sorted(path.parent.name for path in root.glob(f"*/{DESCRIPTION}")))


def verify(data: str, *, root: Path | None = None) -> None:
    """Read every image file of a data set; raises ResattnError where one is not what was written."""
    description = _description(data, root)
    for split, entry in description["splits"].items():
        images = open_split(data, split, root=root).images
        path = Path(str(getattr(images, "filename", "")))
        if file_sha256(path) != entry["images_sha256"]:
            raise _damaged(path, "has changed since it was written", description)


def _description(data: str, root: Path | None) -> dict[str, Any]:
    """The content of dataset.json, checked; draws "shapes" where it is not there yet."""
    root = home.data_root() if root is None else root
    if not NAME_PATTERN.fullmatch(data):
        raise _not_prepared(data, root)
    path = root / data / DESCRIPTION
    if not path.exists():
        if data != "shapes":
            raise _not_prepared(data, root)
        # Many processes of one run may come here at once: the first draws, the others wait and find it drawn.
        with disk_errors(root), locked(root):
            if not path.exists():
                prepare_shapes(root=root)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format"]
        if version == FORMAT and _is_complete(description):
            return dict(description)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"cannot be read ({error})", {"name": data}) from error
    problem = "is incomplete" if version == FORMAT else f"has format {version!r}, this resattn reads {FORMAT}"
    raise _damaged(path, problem, {"name": data})


def _is_complete(description: dict[str, Any]) -> bool:
    lists = all(isinstance(description[key], list) for key in ("class_ids", "class_names"))
    names = lists and len(description["class_ids"]) == len(description["class_names"])
    packed = isinstance(description["packed"], str) and PACKED_PATTERN.fullmatch(description["packed"])
    texts = all(isinstance(description[key], str) for key in ("command", "source_sha256"))
    splits = all(
        isinstance(entry[key], int)
        for entry in description["splits"].values()
        for key in ("images", "height", "width")
    )
    return bool(names and packed and texts and splits)


def _open(folder: Path, split: str, description: dict[str, Any]) -> PackedSplit:
    entry = description["splits"][split]
    count = entry["images"]
    images = _load(folder / "images.npy", (count, entry["height"], entry["width"], 3), np.uint8, description)
    labels = _load(folder / "labels.npy", (count,), np.int64, description)
    boxes = _load(folder / "boxes.npy", (count, 4), np.float32, description) if "boxes" in entry else None
    names_path = folder / "file_names.json"
    try:
        names = tuple(json.loads(names_path.read_text(encoding="ascii")))
    except (ValueError, TypeError) as error:
        raise _damaged(names_path, f"cannot be read ({error})", description) from error
    if len(names) != count:
        raise _damaged(names_path, f"has {len(names)} names for {count} images", description)
    if count and not -1 <= labels.min() <= labels.max() < len(description["class_ids"]):
        raise _damaged(folder / "labels.npy", "has labels that are no class", description)
    return PackedSplit(
        data=description["name"],
        split=split,
        images=images,
        labels=labels,
        boxes=boxes,
        file_names=names,
        class_ids=tuple(description["class_ids"]),
        class_names=tuple(description["class_names"]),
        source_sha256=description["source_sha256"],
    )


def _load(path: Path, shape: tuple[int, ...], dtype: type[np.generic], description: dict[str, Any]) -> Any:
    """Map the images, read the small arrays; both read-only."""
    try:
        if path.name == "images.npy":
            array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        else:
            with path.open("rb") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:
        # NumPy raises much on foreign bytes: ValueError, EOFError, SyntaxError ...
        raise _damaged(path, f"is damaged or cut short ({error})", description) from error
    if array.shape != shape or array.dtype != dtype:
        problem = f"holds {array.dtype} {array.shape} where {np.dtype(dtype)} {shape} was written"
        raise _damaged(path, problem, description)
    array.flags.writeable = False
    return array


def _restore(values: dict[str, Any]) -> PackedSplit:
    if isinstance(values["images"], Path):
        values["images"] = np.lib.format.open_memmap(values["images"], mode="r")
    return PackedSplit(**values)


def _damaged(path: Path, problem: str, description: Mapping[str, Any]) -> ResattnError:
    name = description["name"]
    command = description.get("command") or PREPARE_COMMANDS.get(name) or _folder_command(name)
    return ResattnError(f"{path} {problem}", f"prepare it again: {command}")


def _not_prepared(data: str, root: Path) -> ResattnError:
    command = PREPARE_COMMANDS.get(data)
    if part := re.fullmatch(r"tiny-imagenet(?:-(\d+)-classes)?(?:-(\d+))?", data):
        options = f" --classes {part[1]}" * bool(part[1]) + f" --size {part[2]}" * bool(part[2])
        command = f"resattn prepare tiny-imagenet{options} --download (or --archive FILE)"
    if command:
        return ResattnError(f"{data} is not prepared (looked in {root})", command)
    path = data.removeprefix("folder:")
    if is_folder(path):
        return ResattnError(
            f"{path} is a folder, and the name of a prepared data set is wanted here",
            f"give --data folder:{shlex.quote(path)} to train or evaluate; elsewhere: {_folder_command('NAME', path)}",
        )
    name = data if NAME_PATTERN.fullmatch(data) else "NAME"
    known = {*PREPARE_COMMANDS, *prepared_data_sets(root=root)}
    near = get_close_matches(data, known, n=1, cutoff=0.6)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return ResattnError(
        f"there is no data set {data!r} in {root}{guess}",
        f"use one of: {', '.join(sorted(known))}; or make your own: {_folder_command(name)}",
    )


def _folder_command(name: str, path: str = "PATH") -> str:
    return f"resattn prepare folder {shlex.quote(path)} --name {name}"

"""A folder of images as what to measure on: one folder a class of a network, nothing packed."""

import hashlib
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from resattn import home, progress
from resattn.data.decoding import BadImageError, in_order
from resattn.data.faults import Faults
from resattn.data.folder_layout import loose, passed_over_note, read_known_classes
from resattn.data.image_folder import decode_file, description_of, folder_stem, identity
from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.files import expanded

FOLDER = "folder:"


def folder_of(data: str) -> Path | None:
    """The folder that a data set is named by: `folder:PATH`, or a path that no data set can be called; else None."""
    if data.startswith(FOLDER):
        return Path(data.removeprefix(FOLDER))
    return Path(data) if "/" in data or data in (".", "..") else None


def read_labelled_folder(
    path: Path,
    class_ids: Sequence[str],
    class_names: Sequence[str],
    *,
    label_of: Callable[[str], int],
    size: int,
) -> tuple[PackedSplit, list[str]]:
    """Every image of a tree with one folder a class, in memory, as the split "all"; and what was left out, and why.

    `label_of` says which class a folder's name is; not all classes need one. Images are decoded as by
    `prepare_image_folder`; those that cannot be are left out. Raises what `label_of` raises, and ResattnError where no
    image is left.
    """
    path = expanded(path)
    faults = Faults(action="skip", mend="")
    files = read_known_classes(path, label_of, faults)
    source, kept, images = hashlib.sha256(), [], []
    with progress.bar(total=len(files), description=f"reading {path}") as advance:
        for file, digest, pixels in in_order(partial(decode_file, size=size), files):
            source.update(identity("all", file) + digest)
            if isinstance(pixels, BadImageError):
                faults.found(str(file.path), str(pixels))
            else:
                kept.append(file)
                images.append(pixels)
            advance(1)
    if not images:
        raise ResattnError(
            f"not one of the {len(files)} files in {path} is a whole image: {faults.skipped[-1]}",
            "check the folder",
        )
    split = PackedSplit(
        data=folder_stem(path),
        split="all",
        images=np.stack(images),
        labels=np.array([file.label for file in kept], np.int64),
        boxes=None,
        file_names=tuple(file.file_name for file in kept),
        class_ids=tuple(class_ids),
        class_names=tuple(class_names),
        source_sha256=source.hexdigest(),
    )
    return split, faults.skipped + loose(path) + passed_over_note(faults)


def packed_from(path: Path, name: str) -> bool | None:
    """Whether the prepared data set `name` was made of the folder `path`; None where it is not there to say."""
    there = description_of(name, home.data_root())
    if there is None:
        return None
    words = shlex.split(str(there.get("command") or ""))
    return (
        words[:3] == ["resattn", "prepare", "folder"] and Path(words[3]).resolve() == expanded(path).resolve()
    )

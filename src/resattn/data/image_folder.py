"""Your own image folders to a packed data set."""

import hashlib
import json
import re
import shlex
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resattn import home, progress
from resattn.data.decoding import (
    BadImageError,
    decode_rgb,
    fit_square,
    in_order,
    read_file,
    readable_by_now,
    to_array,
)
from resattn.data.duplicates import SeenFiles
from resattn.data.durable import disk_errors
from resattn.data.faults import Faults
from resattn.data.folder_layout import FolderLayout, PlannedFile, read_folder
from resattn.data.locking import locked
from resattn.data.packing import DESCRIPTION, PackedWriter, PreparedReport, check_name
from resattn.errors import ResattnError
from resattn.files import expanded

RESERVED_NAMES = ("tiny-imagenet", "cifar10", "cifar100", "shapes")
SMALLEST, LARGEST = 8, 1024
VAL_SHARE = 0.1


class Decoded(NamedTuple):
    """A file's SHA-256, and its pixels or why it has none."""

    file: PlannedFile
    digest: bytes
    pixels: NDArray[np.uint8] | BadImageError


def prepare_image_folder(
    path: Path,
    *,
    name: str,
    size: int = 64,
    val_share: float = VAL_SHARE,
    seed: int = 0,
    root: Path | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
) -> PreparedReport:
    """Pack a tree with one folder of images a class, or with train/ and val/ trees, as the data set `name`.

    The class folder's name is both id and readable name; folders inside a class are walked, hidden files are
    not read. Links are followed wherever they lead, since it is your own tree. A folder train/ (also training/) with
    class folders, beside which only val/ (also valid/, validation/) and test/ (testing/) lie, makes these the splits;
    test/ is unlabelled unless it is made of the same class folders. Without a validation tree, `val_share` (0 to below
    1) of each class, drawn by `seed`, becomes the validation split. Any image Pillow reads is taken (see
    `decode_rgb`; files with a suffix of no format are passed over and noted), turned upright, its shorter side
    scaled to `size` pixels (8 to 1024) and its centre square kept.

    Raises ResattnError, leaving nothing half-made, at the first file that is no whole image and where
    folders, sizes or names make no sense; with `skip_bad` bad files are left out and listed instead.
    """
    started = time.monotonic()
    _check_options(name, size, val_share)
    mend = "remove or replace it" + ("" if skip_bad else ", or leave out what is bad with --skip-bad")
    faults = Faults(action="skip" if skip_bad else "stop", mend=mend)
    layout = read_folder(path, faults, val_share=val_share, seed=seed)
    command = _command(path, name=name, size=size, val_share=val_share, skip_bad=skip_bad)
    source, seen = hashlib.sha256(), SeenFiles()
    with PackedWriter(
        name,
        class_ids=layout.class_ids,
        class_names=layout.class_ids,
        command=command,
        root=root,
        started=started,
    ) as writer:
        for split, files in layout.splits.items():
            _pack(writer, split, files, size, faults, source, seen, workers)
        return writer.finish(
            source=path.absolute().name,
            source_sha256=source.hexdigest(),
            notes=layout.notes + seen.notes(),
            skipped=faults.skipped,
        )


def prepare_once(path: Path, *, size: int, root: Path | None = None) -> tuple[str, PreparedReport | None]:
    """Pack a folder of images as `prepare_image_folder` does, unless that was done and no file has changed since.

    Returns the data set's name, made of the folder's and `size`, and the report of the packing, None where there was
    nothing to do. Bad files are left out and listed. A name that another folder's data set has gets a number. Raises
    ResattnError as `prepare_image_folder` does, and where no class has a second image, to validate on.
    """
    path = expanded(path)
    layout = read_folder(path, Faults(action="skip", mend=""), val_share=VAL_SHARE, seed=0)
    if "val" not in layout.splits:
        raise ResattnError(
            f"every class in {path} has one image, and none is left to validate on",
            "add images, two a class or more",
        )
    place = home.data_root() if root is None else root
    name, unchanged = _name_for(path, layout, size, place)
    if unchanged:
        return name, None
    # Held over choosing once more and packing: of two folders of one name, each finds out what the other took.
    with disk_errors(place), locked(place / f".{folder_stem(path)}-{size}"):
        name, unchanged = _name_for(path, layout, size, place)
        if unchanged:
            return name, None
        return name, prepare_image_folder(path, name=name, size=size, root=root, skip_bad=True)


def _name_for(path: Path, layout: FolderLayout, size: int, place: Path) -> tuple[str, bool]:
    """The folder's data set, there or to be made; and whether it is there, of these very files."""
    stem = name = f"{folder_stem(path)}-{size}"
    number = 1
    while there := description_of(name, place):
        # Links and .. may have been spelled out otherwise when it was packed.
        if _spelled_out(there.get("command")) == _command(path, name=name, size=size, skip_bad=True):
            more = any(readable_by_now(str(reason)) for reason in there.get("skipped") or ())
            return name, not more and there.get("source_sha256") == _source_sha256(layout)
        number += 1
        name = f"{stem}-{number}"
    return name, False


def _spelled_out(command: object) -> str:
    """A command of `_command` with its folder's real path."""
    words = shlex.split(str(command))
    return shlex.join([*words[:3], str(Path(words[3]).resolve()), *words[4:]]) if len(words) > 3 else ""


def folder_stem(path: Path) -> str:
    """The folder's name as far as a data set may be called so."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name).strip("-._")[:48] or "images"


def _command(
    path: Path, *, name: str, size: int, val_share: float = VAL_SHARE, skip_bad: bool = False
) -> str:
    """The command line that packs the folder again."""
    words = f"resattn prepare folder {shlex.quote(str(path.resolve()))} --name {name} --size {size}"
    share = "" if val_share == VAL_SHARE else f" --val-share {val_share:g}"
    return words + share + (" --skip-bad" if skip_bad else "")


def description_of(name: str, root: Path) -> dict[str, Any] | None:
    """What is known of a prepared data set; None where there is none, and nothing where that cannot be read."""
    try:
        return dict(json.loads((root / name / DESCRIPTION).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return {"command": None}


def _source_sha256(layout: FolderLayout) -> str:
    """What `prepare_image_folder` would record of these files, whose pixels are not decoded for it."""
    source = hashlib.sha256()
    for split, files in layout.splits.items():
        for file, digest in zip(files, in_order(_digest, files), strict=True):
            source.update(identity(split, file) + digest)
    return source.hexdigest()


def _digest(file: PlannedFile) -> bytes:
    try:
        return hashlib.sha256(read_file(file.path)).digest()
    except BadImageError:
        return b""


def identity(split: str, file: PlannedFile) -> bytes:
    """What stands for a file, beside its content, in the hash of a data set's source."""
    return f"{split}/{file.file_name}\n".encode("utf-8", "surrogatepass")


def _check_options(name: str, size: int, val_share: float) -> None:
    check_name(name)
    if name in RESERVED_NAMES:
        raise ResattnError(f"{name!r} is the name of a built-in data set", "choose another --name")
    if not SMALLEST <= size <= LARGEST:
        raise ResattnError(
            f"--size {size} is not between {SMALLEST} and {LARGEST} pixels", "choose another --size"
        )
    if not 0 <= val_share < 1:
        raise ResattnError(
            f"--val-share {val_share} is not a share of 0 to below 1", "for example --val-share 0.1"
        )


def _pack(
    writer: PackedWriter,
    split: str,
    files: list[PlannedFile],
    size: int,
    faults: Faults,
    source: "hashlib._Hash",
    seen: SeenFiles,
    workers: int | None,
) -> None:
    """Decode and write one split; `source` takes in the name and the content of every file, in order, `seen` images."""
    written = 0
    decode = partial(decode_file, size=size)
    with (
        writer.split(split, size=(size, size), expected_images=len(files)) as packed,
        progress.bar(total=len(files), description=f"preparing {split}") as advance,
    ):
        for file, digest, pixels in in_order(decode, files, workers=workers):
            source.update(identity(split, file) + digest)
            if isinstance(pixels, BadImageError):
                faults.found(str(file.path), str(pixels))
            else:
                packed.add(pixels, label=file.label, file_name=file.file_name)
                seen.add(digest, split=split, label=file.label)
                written += 1
            advance(1)
    if not written:
        raise ResattnError(
            f"not one of the {len(files)} files for {split} is a whole image: {faults.skipped[-1]}",
            "check the folder",
        )


def decode_file(file: PlannedFile, *, size: int) -> Decoded:
    """The pixels of a file, `size` x `size` x 3, or why it has none."""
    digest = b""
    try:
        data = read_file(file.path)
        digest = hashlib.sha256(data).digest()
        pixels = to_array(fit_square(decode_rgb(data, reduce_to=size), size))
    except BadImageError as error:
        return Decoded(file, digest, error)
    return Decoded(file, digest, pixels)

"""Tiny ImageNet's official archive to a packed data set."""

import shlex
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resattn import progress
from resattn.data.decoding import BadImageError, decode_rgb, in_order, to_array
from resattn.data.download import Source, obtain
from resattn.data.durable import file_sha256
from resattn.data.faults import Faults
from resattn.data.packing import PackedWriter, PreparedReport
from resattn.data.tiny_imagenet_layout import SIDE, PlannedImage, read_layout
from resattn.data.zip_archive import BadMemberError, ZipArchive
from resattn.errors import ResattnError

NAME = "tiny-imagenet"
OFFICIAL = Source(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    file_name="tiny-imagenet-200.zip",
    size=248_100_043,
)
# The official archive's largest image has 2,832 bytes.
_MAX_IMAGE_BYTES = 2**20
_FETCH_AGAIN = "get the archive again with `resattn prepare tiny-imagenet --download`"


class _Encoded(NamedTuple):
    image: PlannedImage
    content: bytes | BadMemberError


class _Decoded(NamedTuple):
    image: PlannedImage
    pixels: NDArray[np.uint8] | BadMemberError | BadImageError


def prepare_tiny_imagenet(
    *,
    archive: Path | None = None,
    download: bool = False,
    source: Source = OFFICIAL,
    root: Path | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    size: int = SIDE,
    classes: int | None = None,
) -> PreparedReport:
    """Pack Tiny ImageNet (200 classes, 64 x 64) from the official zip file, given or downloaded.

    With another `size` images are resized to that side (Lanczos, as Pillow does it), boxes scaled with them, and the
    data set is called tiny-imagenet-SIZE. With a number of `classes` only those are packed whose ids have the smallest
    SHA-256, without test images, and it is called tiny-imagenet-CLASSES-classes or tiny-imagenet-CLASSES-classes-SIZE.

    Splits: train (boxes, by class id then file number), val (boxes, by file number) and, where the archive
    has them, test images (unlabelled). An archive with fewer images than the official one is accepted and the
    report says so. Pixels are Pillow's decoding, grayscale and CMYK turned into RGB. How boxes are read is
    said in `tiny_imagenet_layout`. `workers` threads decode (default: one a core).

    Raises ResattnError, leaving an older prepared set untouched and nothing of the new one, where the archive
    is not Tiny ImageNet's, at the first damaged image, missing annotation or unknown class id, and where the
    disk is full. With `skip_bad` single bad files and lines are left out and listed instead: an image without
    a usable label or pixels is dropped, one without a usable box is kept without a box.
    """
    started = time.monotonic()
    path = obtain(archive, download=download, source=source, command=f"resattn prepare {NAME}")
    if size < 1:
        raise ResattnError(f"--size is {size}", "give a side in pixels, such as 32")
    name, options = _named(size, classes)
    mend = _FETCH_AGAIN if skip_bad else f"{_FETCH_AGAIN}, or leave out what is bad with --skip-bad"
    faults = Faults(action="skip" if skip_bad else "stop", mend=mend)
    with ZipArchive(path, mend=_FETCH_AGAIN) as opened:
        layout = read_layout(opened, faults, mend=_FETCH_AGAIN)
        if classes is not None:
            layout = layout.part(classes)
        command = f"resattn prepare {NAME} --archive {shlex.quote(str(path.absolute()))}{options}"
        command += " --skip-bad" * skip_bad
        names = {"class_ids": layout.class_ids, "class_names": layout.class_names}
        with PackedWriter(name, **names, command=command, root=root, started=started) as writer:
            for split, images in layout.splits.items():
                if images:
                    _pack(writer, split, images, opened, faults, workers, size)
            return writer.finish(
                source=path.name, source_sha256=file_sha256(path), notes=layout.notes, skipped=faults.skipped
            )


def _named(size: int, classes: int | None) -> tuple[str, str]:
    """What a data set is called, and the options it was prepared with."""
    name, options = NAME, ""
    if classes is not None:
        name, options = f"{name}-{classes}-classes", f"{options} --classes {classes}"
    if size != SIDE:
        name, options = f"{name}-{size}", f"{options} --size {size}"
    return name, options


def _pack(
    writer: PackedWriter,
    split: str,
    images: list[PlannedImage],
    archive: ZipArchive,
    faults: Faults,
    workers: int | None,
    size: int,
) -> None:
    boxes: Literal["with", "without"] = "without" if split == "test" else "with"
    written = 0
    with (
        writer.split(split, size=(size, size), expected_images=len(images), boxes=boxes) as packed,
        progress.bar(total=len(images), description=f"{NAME} {split}") as advance,
    ):
        encoded = _encoded(archive, images)
        decode = partial(_decode, size)
        for image, pixels in in_order(decode, encoded, workers=workers, size=_encoded_bytes):
            if isinstance(pixels, Exception):
                faults.found(f"{archive.path}: {image.member}", str(pixels))
            else:
                box = image.box and tuple(edge * size / SIDE for edge in image.box)
                packed.add(pixels, label=image.label, file_name=image.file_name, box=box)
                written += 1
            advance(1)
    if not written:
        raise ResattnError(
            f"{archive.path}: not one of the {len(images)} {split} images is whole", _FETCH_AGAIN
        )


def _encoded(archive: ZipArchive, images: list[PlannedImage]) -> Iterator[_Encoded]:
    """Read the members in this thread (a ZipFile is not for several), for the pool to decode."""
    for image in images:
        try:
            yield _Encoded(image, archive.read(image.member, most_bytes=_MAX_IMAGE_BYTES))
        except BadMemberError as error:
            yield _Encoded(image, error)


def _encoded_bytes(encoded: _Encoded) -> int:
    return len(encoded.content) if isinstance(encoded.content, bytes) else 0


def _decode(size: int, encoded: _Encoded) -> _Decoded:
    if isinstance(encoded.content, BadMemberError):
        return _Decoded(encoded.image, encoded.content)
    try:
        image = decode_rgb(encoded.content, formats=("JPEG",), orientation="as stored")
        if image.size != (SIDE, SIDE):
            raise BadImageError(f"has {image.width} x {image.height} pixels, not {SIDE} x {SIDE}")
        if size != SIDE:
            image = image.resize((size, size), Image.Resampling.LANCZOS)
        return _Decoded(encoded.image, to_array(image))
    except BadImageError as error:
        return _Decoded(encoded.image, error)

"""A small archive in Tiny ImageNet's official layout, and a folder of one's own images, to be spoilt in every way."""

import io
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from photo_folder import Write
from PIL import Image

Members = dict[str, bytes]
PREFIX = "tiny-imagenet-200/"
CLASSES = {
    "n01443537": "goldfish, Carassius auratus",
    "n01629819": "European fire salamander",
    "n07749582": "lemon",
}


class Samples:
    """What the tests of the data layer make their inputs from."""

    @staticmethod
    def pixels(seed: int, side: int = 64) -> Image.Image:
        """An RGB image with content of its own."""
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)

    @classmethod
    def encode(cls, seed: int, *, side: int = 64, mode: str = "RGB", kind: str = "JPEG") -> bytes:
        """An image file."""
        file = io.BytesIO()
        cls.pixels(seed, side).convert(mode).save(file, kind)
        return file.getvalue()

    @classmethod
    def official_members(cls) -> Members:
        """Three classes with 12 train images each, out of order; 6 val, 3 test; some gray, some CMYK."""
        members: Members = {}
        for number, identity in enumerate(reversed(CLASSES)):
            folder = f"{PREFIX}train/{identity}"
            lines = []
            for image in (10, 2, 0, 1, *range(3, 10), 11):
                mode = {1: "L", 2: "CMYK"}.get(image, "RGB")
                members[f"{folder}/images/{identity}_{image}.JPEG"] = cls.encode(
                    number * 100 + image, mode=mode
                )
                lines.append(f"{identity}_{image}.JPEG\t{image}\t{number}\t{63 - image}\t{60 + number}\n")
            members[f"{folder}/{identity}_boxes.txt"] = "".join(lines).encode()
        lines = []
        for image in range(6):
            members[f"{PREFIX}val/images/val_{image}.JPEG"] = cls.encode(1000 + image)
            lines.append(f"val_{image}.JPEG\t{list(CLASSES)[image % 3]}\t{image}\t0\t{image}\t63\n")
        members[f"{PREFIX}val/val_annotations.txt"] = "".join(lines).encode()
        for image in range(3):
            members[f"{PREFIX}test/images/test_{image}.JPEG"] = cls.encode(2000 + image)
        members[f"{PREFIX}wnids.txt"] = "".join(f"{identity}\n" for identity in reversed(CLASSES)).encode()
        words = {"n00001740": "entity", **CLASSES}
        members[f"{PREFIX}words.txt"] = "".join(f"{key}\t{name}\n" for key, name in words.items()).encode()
        return members

    @staticmethod
    def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
        """Write members in order, repeated names too; images stored, text deflated, as in the real one."""
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, content in members:
                kind = zipfile.ZIP_DEFLATED if name.endswith(".txt") else zipfile.ZIP_STORED
                archive.writestr(name, content, compress_type=kind)
        return path

    @staticmethod
    def below(folder: Path) -> list[str]:
        """Everything in a folder, hidden or not; nothing where it does not exist."""
        return (
            sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
            if folder.exists()
            else []
        )


@pytest.fixture(scope="session")
def samples() -> type[Samples]:
    """The functions above."""
    return Samples


@pytest.fixture
def members() -> Members:
    """The members of a small, correct archive."""
    return Samples.official_members()


@pytest.fixture
def archive(tmp_path: Path, members: Members) -> Callable[[], Path]:
    """Writes the `members` as they are by then and returns the archive's path."""
    return lambda: Samples.write_zip(tmp_path / "tiny-imagenet-200.zip", members.items())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The folder of one's own images, which a test fills."""
    return tmp_path / "photos"


@pytest.fixture
def write(tree: Path, samples) -> Write:
    """Writes images `names` below the tree."""

    def write_files(*names: str) -> None:
        for number, name in enumerate(names):
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = {"jpg": "JPEG", "tif": "TIFF"}.get(path.suffix[1:], path.suffix[1:].upper())
            path.write_bytes(samples.encode(number, side=40, kind=kind))

    return write_files


@pytest.fixture
def pets(write: Write) -> None:
    """Two classes of ten images of several kinds, some in a folder of their own."""
    kinds = ("jpg", "png", "bmp", "gif", "tif")
    write(*(f"{name}/{n}.{kinds[n % 5]}" for name in ("dog", "cat") for n in range(8)))
    write(*(f"{name}/more/deep/{n}.png" for name in ("dog", "cat") for n in range(2)))

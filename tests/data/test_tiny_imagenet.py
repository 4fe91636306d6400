"""The official archive's layout to a packed data set."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resattn.data.packed import open_split
from resattn.data.packing import PreparedReport
from resattn.data.tiny_imagenet import prepare_tiny_imagenet
from resattn.errors import ResattnError

P = "tiny-imagenet-200/"
GOLDFISH, SALAMANDER, LEMON = "n01443537", "n01629819", "n07749582"

Members = dict[str, bytes]
Archive = Callable[[], Path]
Prepare = Callable[..., PreparedReport]


@pytest.fixture
def prepare(archive: Archive, tmp_path: Path) -> Prepare:
    """Prepares the members as they are by then into an own data root."""
    return lambda **options: prepare_tiny_imagenet(archive=archive(), root=tmp_path / "data", **options)


def test_order_labels_boxes_and_names(prepare: Prepare, tmp_path: Path) -> None:
    report = prepare()
    assert report.images == {"train": 36, "val": 6, "test": 3}
    assert report.boxes == {"train": 36, "val": 6, "test": 0}
    train, val, test = (open_split("tiny-imagenet", name, root=tmp_path / "data") for name in report.images)
    assert train.class_ids == (GOLDFISH, SALAMANDER, LEMON)
    assert train.class_names == ("goldfish, Carassius auratus", "European fire salamander", "lemon")
    assert train.file_names == tuple(
        f"{identity}_{n}.JPEG" for identity in train.class_ids for n in range(12)
    )
    assert train.labels.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert train.boxes is not None
    assert train.boxes[:12].tolist() == [[n, 2, 64 - n, 63] for n in range(12)]
    assert val.file_names == tuple(f"val_{n}.JPEG" for n in range(6))
    assert val.labels.tolist() == [0, 1, 2] * 2
    assert val.boxes is not None
    assert val.boxes.tolist() == [[n, 0, n + 1, 64] for n in range(6)]
    assert (test.labels.tolist(), test.boxes) == ([-1, -1, -1], None)
    assert test.file_names == ("test_0.JPEG", "test_1.JPEG", "test_2.JPEG")


def test_pixels_are_pillows(prepare: Prepare, members: Members, tmp_path: Path) -> None:
    prepare()
    modes = set()
    for split in ("train", "val", "test"):
        packed = open_split("tiny-imagenet", split, root=tmp_path / "data")
        by_name = {name.rpartition("/")[2]: content for name, content in members.items()}
        for pixels, file_name in zip(packed.images, packed.file_names, strict=True):
            with Image.open(io.BytesIO(by_name[file_name])) as image:
                modes.add(image.mode)
                assert np.array_equal(pixels, np.asarray(image.convert("RGB")))
    assert modes == {"RGB", "L", "CMYK"}


def test_another_size_is_another_data_set_with_boxes_to_scale(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    assert prepare(size=32).name == "tiny-imagenet-32"
    whole, half = (open_split(name, root=tmp_path / "data") for name in ("tiny-imagenet", "tiny-imagenet-32"))
    assert half.images.shape == (36, 32, 32, 3)
    assert whole.boxes is not None and half.boxes is not None
    np.testing.assert_array_equal(half.boxes, whole.boxes / 2)
    image = Image.fromarray(np.asarray(whole.images[7])).resize((32, 32), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(half.images[7], np.asarray(image))
    with pytest.raises(ResattnError, match="--size is 0"):
        prepare(size=0)
    with pytest.raises(ResattnError, match="prepare tiny-imagenet --size 48"):
        open_split("tiny-imagenet-48", root=tmp_path / "data")


def test_some_of_the_classes_are_a_data_set_of_their_own(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    report = prepare(classes=2, size=32)
    assert report.name == "tiny-imagenet-2-classes-32"
    assert report.images == {"train": 24, "val": 4}
    assert report.notes[-1] == "2 of 3 classes" and not any("test" in note for note in report.notes)
    whole, part = (open_split(name, root=tmp_path / "data") for name in ("tiny-imagenet", report.name))
    # Their ids' SHA-256 begin with 2d6c and 5e2d, the lemon's with fa14.
    assert part.class_ids == (GOLDFISH, SALAMANDER)
    assert part.class_names == whole.class_names[:2]
    assert part.labels.tolist() == [0] * 12 + [1] * 12
    assert part.file_names == whole.file_names[:24]
    for count in (1, 3):
        with pytest.raises(ResattnError, match=f"--classes is {count}"):
            prepare(classes=count)
    with pytest.raises(ResattnError, match="prepare tiny-imagenet --classes 5 --size 48 --download"):
        open_split("tiny-imagenet-5-classes-48", root=tmp_path / "data")


def test_a_part_of_the_official_archive_is_accepted_and_said(prepare: Prepare, members: Members) -> None:
    for image in range(3):
        del members[f"{P}test/images/test_{image}.JPEG"]
    members[f"{P}README.txt"] = b"hello"
    members[f"{P}.DS_Store"] = members["__MACOSX/x"] = b"dropping"
    report = prepare()
    assert report.images == {"train": 36, "val": 6}
    assert report.notes == (
        "train: 36 images, where the official archive has 100,000",
        "val: 6 images, where the official archive has 10,000",
        "test: 0 images, where the official archive has 10,000",
        "1 files that are no part of the layout were not read: tiny-imagenet-200/README.txt",
    )


def test_an_archive_without_the_outer_folder_or_with_windows_lines(
    prepare: Prepare, members: Members, tmp_path: Path
) -> None:
    renamed = {name.removeprefix(P): content for name, content in members.items()}
    for name in renamed:
        if name.endswith(".txt"):
            renamed[name] = renamed[name].replace(b"\n", b"\r\n")
    members.clear()
    members.update(renamed)
    assert prepare().images == {"train": 36, "val": 6, "test": 3}
    assert open_split("tiny-imagenet", root=tmp_path / "data").class_names[2] == "lemon"


def test_the_same_archive_gives_the_same_bytes_whatever_the_workers(prepare: Prepare, tmp_path: Path) -> None:
    prepare(workers=1)
    first = np.array(open_split("tiny-imagenet", root=tmp_path / "data").images)
    prepare(workers=5)
    assert np.array_equal(first, open_split("tiny-imagenet", root=tmp_path / "data").images)


def test_the_real_archive_in_part(tiny_imagenet_archive: Path, tmp_path: Path, samples) -> None:
    """Five images of each class of the real archive, 1,000 of val and all of test, against Pillow."""
    chosen: Members = {}
    with zipfile.ZipFile(tiny_imagenet_archive) as real:
        for name in real.namelist():
            number = name.rpartition("_")[2].removesuffix(".JPEG")
            if (
                name.endswith(".txt")
                or not number.isdecimal()
                or int(number) < (5 if "/train/" in name else 1000)
            ):
                chosen[name] = real.read(name)
    for name in chosen:
        if name.endswith(("_boxes.txt", "_annotations.txt")):
            lines = chosen[name].decode().splitlines(keepends=True)
            chosen[name] = "".join(lines[: 5 if "/train/" in name else 1000]).encode()
    path = samples.write_zip(tmp_path / "part.zip", chosen.items())
    report = prepare_tiny_imagenet(archive=path, root=tmp_path / "data")
    assert report.images == {"train": 1000, "val": 1000, "test": 1000}
    assert report.boxes == {"train": 1000, "val": 1000, "test": 0}
    train = open_split("tiny-imagenet", root=tmp_path / "data")
    assert train.class_names[0] == "goldfish, Carassius auratus"
    for row in range(0, 1000, 7):
        identity = train.class_ids[train.labels[row]]
        with Image.open(io.BytesIO(chosen[f"{P}train/{identity}/images/{train.file_names[row]}"])) as image:
            assert np.array_equal(train.images[row], np.asarray(image.convert("RGB")))

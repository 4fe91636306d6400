"""Folders of one's own images to a packed data set."""

import os
from pathlib import Path

import numpy as np
import pytest
from photo_folder import Write, prepare
from PIL import Image

from resattn.data.image_folder import prepare_once
from resattn.data.packed import open_split
from resattn.errors import ResattnError


@pytest.mark.usefixtures("pets")
def test_classes_sizes_and_a_stratified_share(tree: Path) -> None:
    report = prepare(tree, val_share=0.2)
    assert (report.images, report.classes) == ({"train": 16, "val": 4}, 2)
    train, val = (open_split("pets", split, root=tree.parent / "data") for split in ("train", "val"))
    assert train.class_ids == train.class_names == ("cat", "dog")
    assert train.images.shape == (16, 16, 16, 3)
    assert train.labels.tolist() == [0] * 8 + [1] * 8
    assert val.labels.tolist() == [0, 0, 1, 1]
    assert train.boxes is None
    names = [*train.file_names, *val.file_names]
    assert len(set(names)) == 20
    assert "cat/more/deep/0.png" in names


@pytest.mark.usefixtures("pets")
def test_the_share_depends_on_the_seed_and_nothing_else(tree: Path) -> None:
    def chosen(seed: int, workers: int) -> tuple[str, ...]:
        prepare(tree, val_share=0.5, seed=seed, workers=workers)
        return open_split("pets", "val", root=tree.parent / "data").file_names

    first = chosen(0, 1)
    assert chosen(0, 3) == first
    assert chosen(1, 1) != first
    # Written down, so that another platform or version cannot choose others unnoticed.
    assert first == (
        "cat/0.jpg",
        "cat/1.png",
        "cat/2.bmp",
        "cat/5.jpg",
        "cat/more/deep/0.png",
        "dog/1.png",
        "dog/4.tif",
        "dog/6.png",
        "dog/7.bmp",
        "dog/more/deep/1.png",
    )


def test_no_class_is_used_up_for_validation(tree: Path, write: Write) -> None:
    write("a/0.png", "b/0.png", "b/1.png", "c/0.png", "c/1.png", "c/2.png")
    report = prepare(tree, val_share=0.99)
    assert report.images == {"train": 3, "val": 3}
    assert report.notes == ("a: its only image is kept for training",)


@pytest.mark.usefixtures("pets")
def test_no_share_is_no_validation_split(tree: Path) -> None:
    report = prepare(tree, val_share=0)
    assert report.images == {"train": 20}
    assert report.notes == ("no validation split: --val-share is 0",)


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_train_and_validation_trees(tree: Path, write: Write, validation: str) -> None:
    write("train/a/0.png", "train/b/0.png", f"{validation}/a/1.png", f"{validation}/b/x/2.png", "test/9.png")
    report = prepare(tree)
    assert report.images == {"train": 2, "val": 2, "test": 1}
    val, test = (open_split("pets", split, root=tree.parent / "data") for split in ("val", "test"))
    assert (val.labels.tolist(), val.file_names) == ([0, 1], ("a/1.png", "b/x/2.png"))
    assert (test.labels.tolist(), test.file_names) == ([-1], ("9.png",))
    assert report.notes == (
        f"test: unlabelled, because {tree / 'test'} is not made of the same class folders as train",
    )


def test_a_test_tree_of_the_same_classes_is_labelled_and_never_used_for_validation(
    tree: Path, write: Write
) -> None:
    write("train/a/0.png", "train/a/1.png", "train/b/0.png", "train/b/1.png", "test/b/1.png")
    report = prepare(tree)
    assert report.images == {"train": 2, "val": 2, "test": 1}
    assert open_split("pets", "test", root=tree.parent / "data").labels.tolist() == [1]


def test_classes_may_be_called_train_or_test(tree: Path, write: Write) -> None:
    write("train/0.png", "train/1.png", "bus/0.png", "bus/1.png", "test/0.png", "test/1.png")
    prepare(tree, val_share=0)
    assert open_split("pets", root=tree.parent / "data").class_ids == ("bus", "test", "train")


def test_clutter_is_not_read(tree: Path, write: Write) -> None:
    write("a/0.png", "b/0.png", ".git/x.png", "a/.hidden/1.png")
    for name in ("a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", "README.md", "labels.csv"):
        (tree / name).write_bytes(b"text")
    report = prepare(tree, val_share=0)
    assert report.images == {"train": 2}
    assert (
        report.notes[0] == f"2 files beside the class folders of {tree} were not read: README.md, labels.csv"
    )


def test_pixels_are_the_resized_centre(tree: Path) -> None:
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    for name in ("a", "b"):
        (tree / name).mkdir(parents=True)
        image.save(tree / name / "0.png")
    prepare(tree, size=20, val_share=0)
    images = open_split("pets", root=tree.parent / "data").images
    assert images[:, 4:-4, 4:-4].reshape(-1, 3).tolist() == [[0, 0, 255]] * (2 * 12 * 12)


def test_links_are_followed_but_not_round_in_circles(
    tree: Path, write: Write, tmp_path: Path, samples
) -> None:
    write("a/0.png", "b/0.png")
    elsewhere = tmp_path / "elsewhere" / "more"
    elsewhere.mkdir(parents=True)
    (elsewhere / "1.png").write_bytes(samples.encode(9))
    (tree / "a" / "link").symlink_to(elsewhere)
    (tree / "b" / "1.png").symlink_to(elsewhere / "1.png")
    assert prepare(tree, val_share=0).images == {"train": 4}
    (tree / "a" / "round").symlink_to(tree / "a")
    with pytest.raises(ResattnError) as caught:
        prepare(tree)
    assert caught.value.what == f"{tree}/a/round is a link to a folder that it is in"
    assert prepare(tree, val_share=0, skip_bad=True).images == {"train": 4}


@pytest.mark.usefixtures("pets")
def test_the_checksum_tells_contents_apart(tree: Path, samples) -> None:
    def checksum() -> str:
        prepare(tree)
        return open_split("pets", root=tree.parent / "data").source_sha256

    first = checksum()
    assert checksum() == first
    (tree / "cat" / "1.png").write_bytes(samples.encode(77, kind="PNG"))
    assert checksum() != first


def test_class_names_in_any_script_and_bytes_that_are_no_text(tree: Path, write: Write) -> None:
    write("кот/0.png", "犬/0.png", "犬/ё.png")
    (tree / "кот" / os.fsdecode(b"\xff.png")).write_bytes((tree / "кот/0.png").read_bytes())
    prepare(tree, val_share=0.4)
    packed = open_split("pets", root=tree.parent / "data")
    assert packed.class_ids == ("кот", "犬")
    assert np.array_equal(packed.labels, [0, 1])


def test_what_lies_beside_images_takes_no_share_of_theirs(tree: Path, write: Write) -> None:
    write(*(f"{name}/{n}.png" for name in ("cat", "dog") for n in range(4)), "cow/0.png")
    for name in ("cat", "dog", "cow"):
        for n in range(4):
            (tree / name / f"{n}.json").write_text("{}")
    report = prepare(tree, val_share=0.25)
    assert report.images == {"train": 7, "val": 2}
    assert "12 files are no images by their names: cat/0.json, cat/1.json, cat/2.json, ..." in report.notes
    assert "cow: its only image is kept for training" in report.notes


def test_a_folder_is_one_however_it_is_named(tree: Path, write: Write, resattn_home: Path) -> None:
    write("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    (tree.parent / "link").symlink_to(tree)
    first, report = prepare_once(tree, size=16)
    assert report is not None
    for path in (tree / ".." / "photos", tree.parent / "link" / ".." / "photos"):
        assert prepare_once(path, size=16) == (first, None)
    assert [path.name for path in (resattn_home / "data").iterdir()] == [first]


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("train", "test")])
def test_the_usual_names_of_splits(tree: Path, write: Write, train: str, test: str) -> None:
    write(*(f"{split}/{name}/{n}.png" for split in (train, test) for name in "ab" for n in range(2)))
    report = prepare(tree, val_share=0.5)
    assert (report.classes, report.images) == (2, {"train": 2, "val": 2, "test": 4})


def test_classes_called_like_splits_are_classes(tree: Path, write: Write) -> None:
    write("test strip/0.png", "test tube/0.png")
    assert prepare(tree).classes == 2


def test_files_that_are_there_twice_are_noted(tree: Path, write: Write) -> None:
    write("train/a/0.png", "train/a/1.png", "train/b/0.png", "val/a/0.png", "val/b/0.png", "val/b/1.png")
    (tree / "val/a/0.png").write_bytes((tree / "train/a/0.png").read_bytes())
    (tree / "val/b/0.png").write_bytes((tree / "train/a/1.png").read_bytes())
    assert list(prepare(tree).notes) == [
        "2 of 3 images of val are the same files as images of train: its accuracy will look better than it is",
        "files that are in more than one class: 1",
    ]
    (tree / "val/a/0.png").write_bytes(b"broken")
    (tree / "train/a/0.png").write_bytes(b"broken")
    assert "1 of 2 images of val" in prepare(tree, skip_bad=True).notes[0]


def test_photos_that_could_not_be_read_are_packed_once_they_can_be(
    tree: Path, write: Write, resattn_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    write("a/0.png", "a/1.png", "b/0.png", "b/1.png")
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red")).save(tree / "a" / "phone.heic")
    with monkeypatch.context() as patch:
        patch.setattr(Image, "OPEN", {name: one for name, one in Image.OPEN.items() if name != "HEIF"})
        name, report = prepare_once(tree, size=16)
        assert report is not None
        assert "pip install 'resattn[heic]'" in report.skipped[0]
        assert prepare_once(tree, size=16) == (name, None)
    name, report = prepare_once(tree, size=16)
    assert report is not None
    assert (sum(report.images.values()), report.skipped) == (5, ())
    assert prepare_once(tree, size=16) == (name, None)

"""Folders of one's own images with bad files, and those of which nobody can say what is meant."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from photo_folder import Write, prepare

from resattn.data.image_folder import prepare_image_folder
from resattn.data.packed import open_split
from resattn.errors import ResattnError


def refused(tree: Path, samples, **options: object) -> ResattnError:
    with pytest.raises(ResattnError) as caught:
        prepare(tree, **options)
    assert samples.below(tree.parent / "data") == []
    return caught.value


def cut(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-60])
    return "is damaged or cut short ("


def text(path: Path) -> str:
    path.write_text("hello")
    return "is not an image that Pillow can read"


def empty(path: Path) -> str:
    path.write_bytes(b"")
    return "is empty"


def pipe(path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "is not a regular file"


def dangling(path: Path) -> str:
    path.unlink()
    path.symlink_to("nowhere.png")
    return "cannot be read (No such file or directory)"


def loop(path: Path) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return "cannot be read (Too many levels of symbolic links)"


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize("spoil", [cut, text, empty, pipe, dangling, loop])
def test_a_bad_file_is_named_or_skipped(tree: Path, samples, spoil: Callable[[Path], str]) -> None:
    path = tree / "cat" / "1.png"
    reason = spoil(path)
    error = refused(tree, samples)
    assert error.what.startswith(f"{path} {reason}")
    assert error.mend == "remove or replace it, or leave out what is bad with --skip-bad"
    report = prepare(tree, skip_bad=True, val_share=0)
    assert report.images == {"train": 19}
    (skipped,) = report.skipped
    assert skipped.startswith(f"{path} {reason}")


@pytest.mark.usefixtures("pets")
def test_every_bad_file_is_counted(tree: Path) -> None:
    for name in ("cat/0.jpg", "cat/1.png", "dog/3.gif"):
        (tree / name).write_bytes(b"x")
    report = prepare(tree, skip_bad=True, val_share=0)
    assert [line.split(" ")[0] for line in report.skipped] == [
        str(tree / name) for name in ("cat/0.jpg", "cat/1.png", "dog/3.gif")
    ]
    assert open_split("pets", root=tree.parent / "data").labels.tolist() == [0] * 8 + [1] * 9


def test_where_not_one_file_is_whole_the_last_reason_is_told(tree: Path, write: Write, samples) -> None:
    write("a/0.png", "b/0.png")
    for name in "ab":
        (tree / name / "0.png").write_text("hello")
    told = refused(tree, samples, skip_bad=True, val_share=0).what
    assert told.startswith(
        f"not one of the 2 files for train is a whole image: {tree}/b/0.png is not an image that"
    )


def test_folders_that_make_no_sense(tree: Path, write: Write, samples) -> None:
    assert refused(tree, samples).what == f"{tree} does not exist"
    write("a/0.png")
    assert refused(tree / "a" / "0.png", samples).what == f"{tree}/a/0.png is a file, not a folder"
    assert refused(tree, samples).what == f"{tree} holds 1 class folders with images; at least two are needed"
    (tree / "b").mkdir()
    assert refused(tree, samples).what == f"{tree}/b holds no images"


def test_split_trees_that_make_no_sense(tree: Path, write: Write, samples) -> None:
    write("train/a/0.png", "train/b/0.png", "val/c/0.png")
    assert refused(tree, samples).what == f"{tree}/val/c is no class of the train folder"
    told = refused(tree, samples, skip_bad=True)
    assert told.what == f"{tree}/val holds no images of the train folder's classes: c is none of them"
    assert told.mend == "call its folders as those of the train folder: a, b"
    write("valid/a/0.png")
    assert (
        refused(tree, samples).what
        == f"{tree} has more than one folder for the same split: train, val, valid"
    )


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"size": 4}, "--size 4 is not between 8 and 1024 pixels"),
        ({"size": 2000}, "--size 2000 is not between 8 and 1024 pixels"),
        ({"val_share": 1.0}, "--val-share 1.0 is not a share of 0 to below 1"),
        ({"val_share": -0.1}, "--val-share -0.1 is not a share of 0 to below 1"),
        ({"val_share": float("nan")}, "--val-share nan is not a share of 0 to below 1"),
    ],
)
def test_options_that_make_no_sense(tree: Path, samples, options: dict[str, float], what: str) -> None:
    assert refused(tree, samples, **options).what == what


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize("name", ["shapes", "tiny-imagenet", "cifar10", "../up", ""])
def test_names_that_are_taken_or_no_names(tree: Path, name: str) -> None:
    with pytest.raises(ResattnError, match="is the name of a built-in|cannot be the name of a data set"):
        prepare_image_folder(tree, name=name, root=tree.parent / "data")


def test_splits_beside_classes_are_refused(tree: Path, write: Write, samples) -> None:
    write("cat/0.png", "dog/0.png", "val/cat/1.png")
    assert (
        "has val with folders of their own beside cat, dog: splits or classes?" in refused(tree, samples).what
    )
    assert f"{tree}/train/CLASS" in refused(tree, samples).mend
    write("train/cat/0.png", "train/dog/0.png")
    assert "has train, val with folders" in refused(tree, samples).what


def test_splits_without_train_are_refused(tree: Path, write: Write, samples) -> None:
    write("val/cat/1.png", "val/dog/1.png")
    assert "has val with folders of their own and no train" in refused(tree, samples).what


@pytest.mark.parametrize(
    "splits", [("seg_train", "seg_test"), ("training_set", "test_set"), ("Train-1", "Val-1")]
)
def test_splits_called_otherwise_are_not_taken_for_classes(tree: Path, write: Write, samples, splits) -> None:
    write(*(f"{split}/{name}/0.png" for split in splits for name in "ab"))
    if "seg_test" in splits:
        write("seg_pred/0.png")
        splits = ("seg_pred", *splits)
    error = refused(tree, samples)
    assert (
        error.what == f"{tree} has {', '.join(sorted(splits))}, with folders of their own: splits or classes?"
    )
    assert f"{tree}/train" in error.mend


def test_a_folder_around_the_classes_is_seen_through(tree: Path, write: Write, samples) -> None:
    write("archive/a/0.png", "archive/b/0.png")
    assert refused(tree, samples).mend == f"are the classes those in {tree}/archive? Then name that one"

"""Opening a prepared data set, whole or damaged."""

import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resattn.data import packed
from resattn.data.packed import available_splits, open_split, prepared_data_sets, verify
from resattn.data.shapes import prepare_shapes
from resattn.errors import ResattnError

COUNTS = {"train_images": 40, "val_images": 20}


@pytest.fixture
def shapes(resattn_home: Path) -> Path:
    """The folder of the current packed files of a small data set, in the default data root."""
    prepare_shapes(**COUNTS)
    folder = resattn_home / "data" / "shapes"
    return folder / json.loads((folder / "dataset.json").read_text())["packed"]


def test_the_default_root_is_resattn_home(shapes: Path, resattn_home: Path) -> None:
    assert shapes.is_relative_to(resattn_home / "data" / "shapes")
    assert available_splits("shapes") == ("train", "val")
    assert prepared_data_sets() == ("shapes",)


@pytest.mark.usefixtures("shapes")
def test_images_are_mapped_and_nothing_can_be_written() -> None:
    split = open_split("shapes", "val")
    assert isinstance(split.images, np.memmap)
    assert split.boxes is not None
    for array in (split.images, split.labels, split.boxes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.usefixtures("shapes")
def test_pickling_passes_the_path_and_not_the_pixels() -> None:
    split = open_split("shapes")
    data = pickle.dumps(split)
    assert len(data) < split.images.nbytes / 10
    again = pickle.loads(data)
    assert isinstance(again.images, np.memmap)
    assert np.array_equal(again.images, split.images)
    assert (again.file_names, again.class_ids) == (split.file_names, split.class_ids)


@pytest.mark.parametrize("name", ["tiny-imagenet", "cifar10", "cifar100"])
def test_what_is_not_prepared_says_how(resattn_home: Path, name: str) -> None:
    with pytest.raises(ResattnError) as caught:
        open_split(name)
    assert caught.value.what == f"{name} is not prepared (looked in {resattn_home / 'data'})"
    assert caught.value.mend == f"resattn prepare {name} --download (or --archive FILE)"


@pytest.mark.usefixtures("shapes")
def test_a_misspelt_name_is_guessed() -> None:
    with pytest.raises(ResattnError) as caught:
        open_split("tiny-imagnet")
    assert "there is no data set 'tiny-imagnet'" in caught.value.what
    assert caught.value.what.endswith("; did you mean 'tiny-imagenet'?")
    assert caught.value.mend == (
        "use one of: cifar10, cifar100, shapes, tiny-imagenet; "
        "or make your own: resattn prepare folder PATH --name tiny-imagnet"
    )


@pytest.mark.usefixtures("shapes")
def test_a_name_cannot_lead_out_of_the_data_root() -> None:
    with pytest.raises(ResattnError, match="there is no data set"):
        open_split("../data/shapes")


@pytest.mark.usefixtures("shapes")
def test_an_absent_split_names_those_there_are() -> None:
    with pytest.raises(ResattnError) as caught:
        open_split("shapes", "test")
    assert (caught.value.what, caught.value.mend) == (
        "shapes has no split 'test'",
        "choose one of: train, val, kept, held-out",
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + path.read_bytes()[4:])


@pytest.mark.parametrize("spoil", [cut, empty, garble, Path.unlink])
@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "boxes.npy", "file_names.json"])
def test_a_damaged_file_is_named(shapes: Path, file: str, spoil: Callable[[Path], None]) -> None:
    path = shapes / "train" / file
    spoil(path)
    with pytest.raises(ResattnError) as caught:
        open_split("shapes")
    assert caught.value.what.startswith(f"{path} ")
    assert caught.value.mend == "prepare it again: resattn prepare shapes --seed 0"
    assert len(open_split("shapes", "val").images) == 20


def test_arrays_of_another_shape_or_with_labels_of_no_class_are_refused(shapes: Path) -> None:
    np.save(shapes / "train" / "labels.npy", np.full(40, 20))
    with pytest.raises(ResattnError, match=r"labels\.npy has labels that are no class"):
        open_split("shapes")
    np.save(shapes / "train" / "labels.npy", np.zeros(39, dtype=np.int64))
    with pytest.raises(ResattnError, match=r"holds int64 \(39,\) where int64 \(40,\) was written"):
        open_split("shapes")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[:-9], "cannot be read"),
        (lambda _: "[]", "cannot be read"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "has format 2, this resattn reads 1"),
        (lambda text: text.replace('"packed": "packed-', '"packed": "../packed-'), "is incomplete"),
        (lambda text: text.replace('"splits"', '"split"'), "cannot be read"),
    ],
)
def test_a_damaged_description_is_named(shapes: Path, change: Callable[[str], str], problem: str) -> None:
    path = shapes.parent / "dataset.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(ResattnError) as caught:
        open_split("shapes")
    assert caught.value.what.startswith(f"{path} {problem}")
    assert caught.value.mend == "prepare it again: resattn prepare shapes"


def test_verify_notices_a_changed_pixel(shapes: Path) -> None:
    verify("shapes")
    path = shapes / "val" / "images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResattnError) as caught:
        verify("shapes")
    assert caught.value.what == f"{path} has changed since it was written"


def test_shapes_are_drawn_once_on_first_use_even_by_many(
    resattn_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def prepare(*, root: Path) -> None:
        drawn.append(root)
        prepare_shapes(root=root, **COUNTS)

    monkeypatch.setattr(packed, "prepare_shapes", prepare)
    opened: list[packed.PackedSplit] = []
    threads = [threading.Thread(target=lambda: opened.append(open_split("shapes"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(split.images) for split in opened] == [40, 40, 40]
    assert drawn == [resattn_home / "data"]

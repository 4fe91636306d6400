"""A folder of images to measure on: one folder a class of a network, nothing packed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from resattn.data.image_folder import prepare_image_folder
from resattn.data.labelled_folder import folder_of, packed_from, read_labelled_folder
from resattn.data.packed import PackedSplit, open_split
from resattn.errors import ResattnError

IDS, NAMES = ("n1", "n2", "n3"), ("red", "blue", "green")


def read(folder: Path) -> tuple[PackedSplit, list[str]]:
    labels = {name: label for names in (IDS, NAMES) for label, name in enumerate(names)}
    return read_labelled_folder(folder, IDS, NAMES, label_of=labels.__getitem__, size=16)


@pytest.fixture
def photos(draw_dots, tmp_path: Path) -> Path:
    return draw_dots(tmp_path / "photos", {"red": (1, 0, 0), "n2": (0, 0, 1)}, images=3, side=20)


@pytest.mark.parametrize(
    ("data", "folder"),
    [("photos", None), ("folder:photos", "photos"), ("photos/", "photos"), ("./a", "a"), (".", ".")],
)
def test_a_path_is_told_from_the_name_of_a_data_set(data: str, folder: str | None) -> None:
    assert folder_of(data) == (None if folder is None else Path(folder))


def test_folders_are_named_by_class_or_by_its_id_and_every_image_counts(
    photos: Path, resattn_home: Path
) -> None:
    split, left_out = read(photos)
    assert (split.data, split.split, split.class_ids, left_out) == ("photos", "all", IDS, [])
    assert split.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert split.file_names[0] == "n2/0.png"
    prepare_image_folder(photos, name="same", size=16, val_share=0)
    packed = open_split("same")
    assert packed.file_names == split.file_names
    assert np.array_equal(packed.images, split.images)
    (photos.parent / "link").symlink_to(photos)
    for path in (photos, photos / ".." / "photos", photos.parent / "link"):
        assert packed_from(path, "same") is True
    assert packed_from(photos / "red", "same") is False
    assert packed_from(photos, "other") is None


def test_what_is_no_image_is_left_out_and_what_is_no_class_refused(photos: Path) -> None:
    (photos / "red" / "0.png").write_bytes(b"no image")
    (photos / "red" / "0.mov").write_bytes(b"of a phone")
    split, left_out = read(photos)
    assert len(split.images) == 5
    assert left_out == [
        f"{photos / 'red' / '0.png'} is not an image that Pillow can read",
        "1 files are no images by their names: red/0.mov",
    ]
    with pytest.raises(ResattnError, match="holds no images in class folders"):
        read(photos / "red")
    for nowhere in (photos / "nowhere", Path("~nobody-of-this-name/x")):
        with pytest.raises(ResattnError, match="does not exist"):
            read(nowhere)
    (photos / "gren").mkdir()
    assert f"{photos / 'gren'} holds no images" in read(photos)[1]
    shutil.copy(photos / "red" / "1.png", photos / "gren")
    with pytest.raises(KeyError, match="gren"):
        read(photos)

"""A folder of images to measure on: one folder a class of a network, nothing packed."""

from pathlib import Path

import numpy as np
import pytest

from resattn.data.image_folder import prepare_image_folder
from resattn.data.labelled_folder import folder_of, packed_from, read_labelled_folder
from resattn.data.packed import open_split
from resattn.errors import ResattnError

IDS, NAMES = ("n1", "n2", "n3"), ("red", "blue", "green")


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
    split, left_out = read_labelled_folder(photos, IDS, NAMES, size=16)
    assert (split.data, split.split, split.class_ids, left_out) == ("photos", "all", IDS, [])
    assert split.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert split.file_names[0] == "n2/0.png"
    prepare_image_folder(photos, name="same", size=16, val_share=0)
    packed = open_split("same")
    assert packed.file_names == split.file_names
    assert np.array_equal(packed.images, split.images)
    assert packed_from(photos, "same") and packed_from(photos / "..", "same") is False
    assert not packed_from(photos, "other")


def test_what_is_no_image_is_left_out_and_what_is_no_class_refused(photos: Path) -> None:
    (photos / "red" / "0.png").write_bytes(b"no image")
    split, left_out = read_labelled_folder(photos, IDS, NAMES, size=16)
    assert len(split.images) == 5
    assert left_out == [f"{photos / 'red' / '0.png'} is not an image that Pillow can read"]
    (photos / "gren").mkdir()
    with pytest.raises(ResattnError, match="gren is named after no class of the network") as refused:
        read_labelled_folder(photos, IDS, NAMES, size=16)
    assert refused.value.mend == "did you mean green?"
    with pytest.raises(ResattnError, match="holds no images in class folders"):
        read_labelled_folder(photos / "red", IDS, NAMES, size=16)
    with pytest.raises(ResattnError, match="nowhere does not exist"):
        read_labelled_folder(photos / "nowhere", IDS, NAMES, size=16)

"""The embedded data set: drawn alike everywhere, balanced, and about shape and texture together."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from resattn.data.packed import PackedSplit, open_split
from resattn.data.shape_drawing import SHAPES, TEXTURES
from resattn.data.shapes import CLASS_IDS, prepare_shapes
from resattn.errors import ResattnError


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PackedSplit]:
    root = tmp_path_factory.mktemp("shapes")
    prepare_shapes(root=root, train_images=210, val_images=100)
    return {split: open_split("shapes", split, root=root) for split in ("train", "val")}


def test_every_shape_occurs_with_every_texture_equally_often(drawn: dict[str, PackedSplit]) -> None:
    train = drawn["train"]
    assert len(train.class_ids) == len(SHAPES) * len(TEXTURES) >= 20
    assert train.class_ids == CLASS_IDS == tuple(sorted(CLASS_IDS))
    assert train.class_names[0] == "circle with checks"
    counts = np.bincount(train.labels, minlength=20)
    assert counts.min() == 10
    assert counts.max() == 11


def test_images_and_boxes_have_the_stated_form(drawn: dict[str, PackedSplit]) -> None:
    for split in drawn.values():
        assert split.images.shape[1:] == (64, 64, 3)
        assert split.boxes is not None
        x0, y0, x1, y1 = split.boxes.T
        assert (split.boxes >= 0).all()
        assert (split.boxes <= 64).all()
        widths, heights = x1 - x0, y1 - y0
        assert min(widths.min(), heights.min()) >= 15
        assert max(widths.max(), heights.max()) <= 56
        assert np.ptp(x0) > 20
        assert np.ptp(widths) > 15


def test_images_are_varied_and_not_washed_out(drawn: dict[str, PackedSplit]) -> None:
    images = drawn["train"].images
    assert len({image.tobytes() for image in images}) == len(images)
    assert images.min() == 0
    assert images.max() == 255
    assert images.reshape(len(images), -1).std(axis=1).min() > 15


def test_the_boxed_part_is_what_is_textured(drawn: dict[str, PackedSplit]) -> None:
    """Neighbouring pixels differ more inside the box than outside, in almost every image."""
    split = drawn["train"]
    assert split.boxes is not None
    inside_wins = 0
    for image, box in zip(split.images, split.boxes.astype(int), strict=True):
        change = np.abs(np.diff(image.astype(int).sum(axis=2), axis=1, append=0))
        mask = np.zeros((64, 64), dtype=bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        inside_wins += change[mask].mean() > change[~mask].mean()
    assert inside_wins / len(split.images) > 0.95


def test_train_and_val_share_no_image(drawn: dict[str, PackedSplit]) -> None:
    train, val = ({image.tobytes() for image in split.images} for split in drawn.values())
    assert not train & val


def test_an_image_depends_on_the_seed_alone(drawn: dict[str, PackedSplit], tmp_path: Path) -> None:
    prepare_shapes(root=tmp_path, train_images=57, val_images=20)
    fewer = open_split("shapes", root=tmp_path)
    assert np.array_equal(fewer.images, drawn["train"].images[:57])
    assert np.array_equal(fewer.boxes, drawn["train"].boxes[:57])
    first = np.array(fewer.images)
    prepare_shapes(root=tmp_path, train_images=57, val_images=20, seed=1)
    other = open_split("shapes", root=tmp_path)
    assert not np.array_equal(other.images[0], first[0])
    assert other.source_sha256 != fewer.source_sha256


def test_the_pixels_are_those_of_every_platform(drawn: dict[str, PackedSplit]) -> None:
    digest = hashlib.sha256(np.ascontiguousarray(drawn["val"].images).data).hexdigest()
    assert digest == "db6f1ae4d7d2d48ba05918ad8900bef686ba1c97c99fe94ca4c2f5cd8be02b87"


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"train_images": 19}, {"val_images": 0}])
def test_counts_and_seeds_that_make_no_sense(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ResattnError, match="^shapes cannot be drawn with seed "):
        prepare_shapes(root=tmp_path, **wrong)
    assert not list(tmp_path.iterdir())

"""The submission file's format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resattn.errors import ResattnError
from resattn.evaluation.submission import natural_order, write_submission

Make = Callable[..., Any]
IDENTITY = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
IDS = ["n01", "n02", "n03"]


def test_one_line_an_image_in_natural_order(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    names = ["test_0.JPEG", "test_1.JPEG", "test_10.JPEG", "test_2.JPEG"]
    split = make_split([2, 1, 0, 1], [-1] * 4, class_ids=IDS, file_names=names, split="test")
    path = tmp_path / "new" / "answers.txt"
    assert write_submission(oracle(IDENTITY, IDS), split, path, batch_size=3, progress=False) == 4
    assert path.read_text() == "test_0.JPEG n03\ntest_1.JPEG n02\ntest_2.JPEG n02\ntest_10.JPEG n01\n"
    assert list(path.parent.iterdir()) == [path]


def test_flip_averages_the_views(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    split = make_split([2], [-1], mirrored=[1], class_ids=IDS, split="test")
    for flip, expected in (("none", "n03"), ("average", "n02")):
        write_submission(oracle(IDENTITY), split, tmp_path / "s", flip=flip, progress=False)
        assert (tmp_path / "s").read_text() == f"test_0.JPEG {expected}\n"


def test_nothing_is_left_where_it_fails(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    target = tmp_path / "out" / "answers.txt"
    target.parent.mkdir()
    target.write_text("the last one\n")
    split = make_split([0, 1], [-1, -1], class_ids=IDS, split="test")
    with pytest.raises(ResattnError, match="not finite"):
        write_submission(oracle([[float("nan")] * 3] * 2), split, target, progress=False)
    with pytest.raises(ResattnError, match="different classes"):
        write_submission(oracle(IDENTITY, ["n01", "n02", "n04"]), split, target, progress=False)
    assert target.read_text() == "the last one\n"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(ResattnError, match="cannot write"):
        write_submission(oracle(IDENTITY), split, target / "below-a-file", progress=False)


def test_a_split_without_images(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match="has no images"):
        write_submission(oracle(IDENTITY), make_split([], [], split="test"), tmp_path / "s", progress=False)


def test_natural_order() -> None:
    names = ["b", "a10", "a9", "a", "10", "9", "a9b2", "a9b10"]
    assert sorted(names, key=natural_order) == ["9", "10", "a", "a9", "a9b2", "a9b10", "a10", "b"]

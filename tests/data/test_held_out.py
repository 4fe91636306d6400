"""The twentieth of train that tuning validates on."""

import os
import pickle
from collections import Counter

import numpy as np
import pytest

from resattn.data.held_out import held_out_rows
from resattn.data.packed import open_split
from resattn.data.shapes import prepare_shapes

pytestmark = pytest.mark.usefixtures("resattn_home")


def test_every_class_gives_a_twentieth_and_the_order_does_not_matter() -> None:
    labels = np.repeat(np.arange(3), [100, 20, 7])
    names = [f"{label}_{number}.JPEG" for number, label in enumerate(labels)]
    held = held_out_rows(labels, names)
    assert Counter(labels[held]) == {0: 5, 1: 1, 2: 1}
    order = np.random.default_rng(0).permutation(len(labels))
    assert np.array_equal(held_out_rows(labels[order], [names[place] for place in order]), held[order])


def test_a_class_of_one_image_keeps_it() -> None:
    assert held_out_rows(np.array([0, 1, 1]), ["a", "b", "c"]).tolist()[0] is False


def test_the_choice_is_fixed_for_good() -> None:
    names = [f"n01443537_{number}.JPEG" for number in range(60)]
    held = held_out_rows(np.zeros(60, dtype=np.int64), names)
    assert np.flatnonzero(held).tolist() == [3, 16, 43]


def test_names_that_are_no_unicode_have_their_place_too() -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    held = held_out_rows(np.zeros(3, dtype=np.int64), [odd, "a.png", "b.png"])
    assert np.flatnonzero(held).tolist() == [2]


def test_kept_and_held_out_are_train_divided() -> None:
    prepare_shapes(train_images=200, val_images=20)
    whole, kept, held = (open_split("shapes", name) for name in ("train", "kept", "held-out"))
    assert len(kept.images) + len(held.images) == len(whole.images)
    assert set(kept.file_names) | set(held.file_names) == set(whole.file_names)
    place = {name: row for row, name in enumerate(whole.file_names)}
    for split in (kept, held):
        rows = [place[name] for name in split.file_names]
        assert split.images.shape == (len(rows), *whole.images.shape[1:])
        assert np.array_equal(split.images[:], whole.images[rows])
        assert np.array_equal(split.images[1:7:2], whole.images[rows[1:7:2]])
        assert np.array_equal(split.labels, whole.labels[rows])
        assert split.boxes is not None and whole.boxes is not None
        assert np.array_equal(split.boxes, whole.boxes[rows], equal_nan=True)


def test_a_part_of_a_split_is_pickled_without_its_pixels() -> None:
    prepare_shapes(train_images=200, val_images=20)
    kept = open_split("shapes", "kept")
    data = pickle.dumps(kept)
    assert len(data) < len(kept.images) * np.prod(kept.images.shape[1:]) / 10
    assert np.array_equal(pickle.loads(data).images[:], kept.images[:])

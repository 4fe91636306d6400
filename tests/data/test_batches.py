from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from resattn.data.augmentation import (
    Augmentation,
    crop,
    crop_windows,
    erase,
    erased_rectangles,
    flips,
    gather,
    mix,
)
from resattn.data.batches import (
    Batch,
    EvaluationBatches,
    TrainingBatches,
    image_size,
    places_of_rank,
    to_float,
)
from resattn.data.image_rows import ImageRows

PLAIN = Augmentation(flip="none", shift=0)


def split_of(images: int, size: int = 16, seed: int = 0) -> Any:
    """Random images whose first pixel tells their number."""
    pixels = np.random.default_rng(seed).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(images) % 256
    return SimpleNamespace(images=pixels, labels=np.arange(images))


def batches_of(split: Any, **changes: Any) -> TrainingBatches:
    options: dict[str, Any] = {
        "batch_size": 8,
        "batches": 12,
        "seed": 3,
        "augmentation": Augmentation(mixup=0.2, cutmix=1.0, erase=0.5),
        "start_scale": 0.5,
        "size_ramp": 0.5,
    }
    return TrainingBatches(split, **(options | changes))


def equal(first: Batch, second: Batch) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(first, second, strict=True)
    )


def test_every_image_comes_once_an_epoch_also_where_batches_span_two() -> None:
    split = split_of(20)
    batches = batches_of(split, augmentation=PLAIN, batches=5, start_scale=1.0)
    labels = torch.cat([batch.labels for batch in batches]).tolist()
    assert Counter(labels) == dict.fromkeys(range(20), 2)
    assert Counter(labels[:20]) == dict.fromkeys(range(20), 1)
    assert labels[:20] != labels[20:]


def test_images_are_the_stored_ones_with_their_labels() -> None:
    split = split_of(20)
    batch = batches_of(split, augmentation=PLAIN, start_scale=1.0).batch(1)
    for image, label in zip(batch.images, batch.labels, strict=True):
        stored = torch.from_numpy(split.images[label]).permute(2, 0, 1) / 255
        torch.testing.assert_close(image, stored, rtol=0, atol=0)


@pytest.mark.parametrize("done", [0, 5, 12])
def test_batches_made_ahead_by_threads_are_the_same_in_the_same_order(done: int) -> None:
    split = split_of(20)
    one_by_one, ahead = batches_of(split), batches_of(split, workers=3)
    for batches in (one_by_one, ahead):
        batches.load_state_dict({"next": done})
    pairs = list(zip(one_by_one, ahead, strict=True))
    assert len(pairs) == 12 - done
    assert all(equal(first, second) for first, second in pairs)


def test_a_batch_that_is_only_in_the_making_does_not_count_as_seen() -> None:
    batches = batches_of(split_of(20), workers=3)
    iterator = iter(batches)
    for _ in range(4):
        next(iterator)
    assert batches.state_dict() == {"next": 4}


def test_an_error_in_a_thread_reaches_whoever_iterates() -> None:
    split = split_of(20)
    split.labels = split.labels[:3]
    with pytest.raises(IndexError):
        list(batches_of(split, workers=2))


def test_a_resumed_iteration_gives_the_same_batches() -> None:
    split = split_of(20)
    whole = list(batches_of(split))
    first = batches_of(split)
    seen = iter(first)
    for _ in range(5):
        next(seen)
    resumed = batches_of(split)
    resumed.load_state_dict(first.state_dict())
    rest = list(resumed)
    assert len(rest) == 7
    assert all(equal(a, b) for a, b in zip(whole[5:], rest, strict=True))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_divide_the_very_batch_that_one_alone_would_have(world: int) -> None:
    split = split_of(20)
    changes: dict[str, Any] = {
        "augmentation": Augmentation(mixup=0.2, cutmix=1.0, erase=0.5, crop=0.5, flip="random"),
        "batch_size": 16,
    }
    ranks = [batches_of(split, **changes, rank=rank, world=world) for rank in range(world)]
    for number, whole in enumerate(batches_of(split, **changes)):
        parts = [one.batch(number) for one in ranks]
        places = [places_of_rank(16, rank=rank, world=world) for rank in range(world)]
        assert sorted(np.concatenate(places)) == list(range(16))
        for part, mine in zip(parts, places, strict=True):
            assert len(part.images) == 16 // world
            torch.testing.assert_close(part.images, whole.images[mine], rtol=0, atol=0)
            assert torch.equal(part.labels, whole.labels[mine])
            assert torch.equal(part.other_labels, whole.other_labels[mine])
            assert part.share == whole.share


def test_seeds_differ() -> None:
    split = split_of(20)
    assert not equal(batches_of(split, seed=3).batch(0), batches_of(split, seed=4).batch(0))


@pytest.mark.parametrize("kind", ["random", "alternating"])
def test_about_half_of_the_images_are_mirrored(kind: Any) -> None:
    mirrored = flips(Augmentation(flip=kind), np.arange(4000), np.zeros(4000, dtype=np.int64), 7)
    assert 0.45 < mirrored.mean() < 0.55


def test_alternating_flip_shows_both_orientations_in_turn() -> None:
    numbers = np.arange(100)
    first, second, third = (
        flips(Augmentation(flip="alternating"), numbers, np.full(100, epoch), 7) for epoch in (0, 1, 2)
    )
    assert (first != second).all()
    assert (first == third).all()


def test_gather_mirrors_and_shifts_with_reflection() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, axis=3)
    zero = np.zeros(1, dtype=np.int64)
    mirrored = gather(image, zero, np.array([True]), np.array([[0, 0]]))
    np.testing.assert_array_equal(mirrored[0, 0, :, 0], [3, 2, 1, 0])
    down = gather(image, zero, np.array([False]), np.array([[1, 0]]))
    np.testing.assert_array_equal(down[0, :, 0, 0], [4, 0, 4, 8])
    right = gather(image, zero, np.array([False]), np.array([[0, -1]]))
    np.testing.assert_array_equal(right[0, 0, :, 0], [1, 2, 3, 2])


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_gather_is_padding_by_reflection_cutting_out_and_mirroring(limit: int) -> None:
    rng = np.random.default_rng(limit)
    images = rng.integers(0, 256, (9, 5, 7, 3), dtype=np.uint8)
    indices, mirrored = rng.integers(0, 9, 40), rng.random(40) < 0.5
    shifts = rng.integers(-limit, limit + 1, (40, 2))
    gathered = gather(ImageRows(images, np.arange(9)), indices, mirrored, shifts)
    for index, mirror, (down, right), ours in zip(indices, mirrored, shifts, gathered, strict=True):
        padded = np.pad(images[index], ((limit, limit), (limit, limit), (0, 0)), mode="reflect")
        theirs = padded[limit - down :][:5, limit - right :][:, :7]
        np.testing.assert_array_equal(ours, theirs[:, ::-1] if mirror else theirs)


def test_image_size_grows_in_steps_to_the_full_size() -> None:
    sizes = [image_size(full=64, start_scale=0.75, ramp=0.7, progress=step / 100) for step in range(100)]
    assert sizes[0] == 48
    assert set(sizes) == {48, 56, 64}
    assert sizes == sorted(sizes)
    assert set(sizes[70:]) == {64}
    assert image_size(full=32, start_scale=1.0, ramp=0.7, progress=0) == 32


def test_progressive_sizes_reach_the_batches() -> None:
    batches = batches_of(split_of(20))
    assert batches.batch(0).images.shape == (8, 3, 8, 8)
    assert batches.batch(11).images.shape == (8, 3, 16, 16)


def test_mixup_is_the_mean_its_share_says() -> None:
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    mixed = mix(images.clone(), labels, Augmentation(mixup=1.0), np.random.default_rng(0))
    assert mixed is not None
    expected = mixed.share * images + (1 - mixed.share) * images.flip(0)
    torch.testing.assert_close(mixed.images, expected)
    assert mixed.other_labels.tolist() == [3, 2, 1, 0]


def test_cutmix_share_is_the_area_that_was_kept() -> None:
    images = torch.stack([torch.full((3, 16, 16), float(number)) for number in range(2)])
    mixed = mix(images.clone(), torch.arange(2), Augmentation(cutmix=1.0), np.random.default_rng(1))
    assert mixed is not None
    kept = float((mixed.images[1, 0] == 1).float().mean())
    assert kept == pytest.approx(mixed.share)
    assert 0 < mixed.share < 1


def test_nothing_is_mixed_where_nothing_was_asked_for() -> None:
    assert mix(torch.rand(2, 3, 8, 8), torch.arange(2), PLAIN, np.random.default_rng(0)) is None


def test_the_last_images_of_a_run_can_come_unmixed() -> None:
    augmentation = Augmentation(cutmix=1.0, mix_until=0.75, flip="none", shift=0)
    plain = batches_of(split_of(20), augmentation=PLAIN)
    for number, batch in enumerate(batches_of(split_of(20), augmentation=augmentation)):
        mixed = not torch.equal(batch.images, plain.batch(number).images)
        assert (batch.share < 1) == mixed == (number < 9)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_erasing_touches_none_or_every_image(probability: float) -> None:
    images = torch.zeros(6, 3, 16, 16)
    erase(images, erased_rectangles(6, 16, probability, np.random.default_rng(0)))
    touched = [bool(image.any()) for image in images]
    assert touched == [probability == 1.0] * 6


def test_a_crop_is_an_enlarged_part_of_the_image() -> None:
    ramp = (torch.arange(32) + 0.5) / 32
    across = ramp.expand(200, 32, 32)  # column by column from 0 to 1, and row by row in the second channel
    images = torch.stack([across, across.transpose(1, 2), torch.full_like(across, 0.3)], dim=1)
    cropped = crop(images, crop_windows(200, 0.5, np.random.default_rng(0)))
    assert cropped.shape == images.shape
    torch.testing.assert_close(cropped[:, 2], images[:, 2])
    wide, high = (
        cropped[:, 0, 16].diff().median(1).values * 32,
        cropped[:, 1, :, 16].diff().median(1).values * 32,
    )
    assert 0.5 <= (wide * high).min() < 0.55
    assert 0.9 < (wide * high).max() <= 1.0001
    assert 0.74 < (wide / high).min() < 0.8
    assert 1.25 < (wide / high).max() < 1.34
    assert cropped[:, 0, :, 0].min() < 0.02 and cropped[:, 0, :, -1].max() > 0.98  # up to the edges


def test_crops_are_drawn_anew_for_every_batch_and_alike_for_the_same() -> None:
    split = split_of(8)
    plain, cropping = (batches_of(split, augmentation=Augmentation(crop=share)) for share in (1.0, 0.3))
    assert equal(cropping.batch(0), batches_of(split, augmentation=Augmentation(crop=0.3)).batch(0))
    assert not torch.equal(cropping.batch(0).images, plain.batch(0).images)
    assert cropping.batch(0).images.is_contiguous(memory_format=torch.channels_last)


def test_evaluation_sees_every_image_once_in_order() -> None:
    split = split_of(21)
    labels = torch.cat([labels for _, labels in EvaluationBatches(split, batch_size=8)])
    assert labels.tolist() == list(range(21))
    assert len(EvaluationBatches(split, batch_size=8)) == 3


def test_floats_are_channels_last_in_zero_to_one() -> None:
    images = to_float(split_of(4).images)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= images.min() <= images.max() <= 1

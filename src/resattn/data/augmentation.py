"""Batched augmentation: what a training image may look like, drawn from a generator the caller seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from resattn.data.image_rows import ImageRows

ERASE_AREA = (0.05, 0.25)
ERASE_VALUE = 0.45
CROP_ASPECT = (3 / 4, 4 / 3)
PIXEL = np.dtype((np.void, 3))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to a training image."""

    flip: Literal["none", "random", "alternating"] = "alternating"
    """Horizontal flip: at random, or alternating, so that two epochs show every image in both orientations."""
    shift: int = 4
    """Largest shift in both directions, in pixels of the stored image; edges are filled by reflection."""
    crop: float = 1.0
    """Smallest share of an image's area that a random crop keeps (Szegedy et al. 2015); 1 switches cropping off."""
    mixup: float = 0.0
    """Alpha of MixUp's Beta distribution (Zhang et al. 2018); 0 switches it off."""
    cutmix: float = 0.0
    """Alpha of CutMix's Beta distribution (Yun et al. 2019); 0 switches it off. With MixUp: one or the other."""
    mix_until: float = 1.0
    """Share of the run in which images are mixed; behind it they come as they will be judged (Yu et al. 2021)."""
    erase: float = 0.0
    """Probability that a rectangle of 5 to 25 % of an image is filled with grey (Zhong et al. 2020)."""


class Rectangle(NamedTuple):
    """Edges in pixels: rows `top` to before `down`, columns `left` to before `right`."""

    top: int
    left: int
    down: int
    right: int


class Mixed(NamedTuple):
    """Images N x 3 x H x W with the labels of both images that went into each, and the first one's share."""

    images: Tensor
    labels: Tensor
    other_labels: Tensor
    share: float


def flips(augmentation: Augmentation, indices: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
    """Which images are mirrored: bool, one per entry of `indices` (image numbers) seen in `epochs`.

    A pure function of its arguments, so that alternating flips stay in turn across epochs and restarts.
    """
    if augmentation.flip == "none":
        return np.zeros(len(indices), dtype=bool)
    coin = _coin(indices.astype(np.uint64), np.uint64(seed))
    if augmentation.flip == "alternating":
        return np.asarray((coin + epochs) % 2 == 1)
    seen = indices.astype(np.uint64) + (epochs.astype(np.uint64) << np.uint64(32))
    return np.asarray(_coin(seen, np.uint64(seed)) == 1)


def _coin(numbers: np.ndarray, seed: np.uint64) -> np.ndarray:
    """One fair bit for each number: splitmix64's finaliser, computed without any state."""
    with np.errstate(over="ignore"):
        mixed = numbers + (seed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed >> np.uint64(63)) & np.uint64(1)).astype(np.int64)


def gather(
    images: np.ndarray | ImageRows, indices: np.ndarray, mirrored: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """Copy the chosen images out of a packed split, mirrored and shifted.

    `images` is uint8 N x H x W x 3 (may be memory-mapped), `indices` B image numbers, `mirrored` B bools, `shifts`
    B x 2 whole pixels (down, right). Returns uint8 B x H x W x 3. What a shift uncovers is filled by reflection.
    """
    chosen = np.asarray(images[indices])
    # One element a pixel: numpy moves three bytes at once far faster than three times one.
    pixels = chosen.view(PIXEL)[..., 0]
    pixels[mirrored] = pixels[mirrored][:, :, ::-1]
    # Shifting a mirrored image to the left is mirroring one that was shifted to the right.
    right = np.where(mirrored, -shifts[:, 1], shifts[:, 1])
    return _shifted(pixels, shifts[:, 0], right).view(np.uint8).reshape(chosen.shape)


def _shifted(pixels: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """B x H x W pixels moved by B whole pixels down and to the right, as B x H rows."""
    batch, height, width = pixels.shape
    most = int(np.abs(right).max(initial=0))
    wide = np.empty((batch, height, width + 2 * most), dtype=PIXEL)
    wide[:, :, most : most + width] = pixels
    for far in range(1, most + 1):
        wide[:, :, most - far] = pixels[:, :, far]
        wide[:, :, most + width - 1 + far] = pixels[:, :, width - 1 - far]
    # Element b, r, c is the whole row of `width` pixels that begins at column c of row r.
    row = np.dtype((np.void, width * PIXEL.itemsize))
    windows = np.ndarray((batch, height, 2 * most + 1), dtype=row, buffer=wide, strides=wide.strides)
    rows = _reflected(np.arange(height) - down[:, None], height)
    return np.asarray(windows[np.arange(batch)[:, None], rows, (most - right)[:, None]])


def _reflected(positions: np.ndarray, length: int) -> np.ndarray:
    positions = np.abs(positions)
    return np.where(positions >= length, 2 * (length - 1) - positions, positions)


def crop_windows(count: int, smallest: float, rng: np.random.Generator) -> Tensor:
    """A random rectangle for each of `count` images, as the places to read: count x 2 x 3, for `crop`.

    Its area is `smallest` to 1 of the image's, its proportions 3/4 to 4/3 of the image's own, as far as it fits.
    """
    area = rng.uniform(smallest, 1, count)
    aspect = np.exp(0.5 * rng.uniform(np.log(CROP_ASPECT[0]), np.log(CROP_ASPECT[1]), count))
    sides = np.minimum(np.stack([area**0.5 * aspect, area**0.5 / aspect], axis=1), 1)  # right, down
    centers = rng.uniform(-1, 1, sides.shape) * (1 - sides)
    windows = np.zeros((count, 2, 3), dtype=np.float32)
    windows[:, (0, 1), (0, 1)] = sides
    windows[:, :, 2] = centers
    return torch.from_numpy(windows)


def crop(images: Tensor, windows: Tensor) -> Tensor:
    """The window of each image, enlarged to the image's size, read bilinearly: N x 3 x H x W in [0, 1] to the same."""
    grid = functional.affine_grid(windows, list(images.shape), align_corners=False)
    cropped = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return cropped.contiguous(memory_format=torch.channels_last)


def erased_rectangles(
    count: int, side: int, probability: float, rng: np.random.Generator
) -> list[Rectangle | None]:
    """For each of `count` images of `side` x `side` pixels what is to be erased: with `probability` a rectangle."""
    chances = rng.random(count)
    rectangles = [_rectangle(side, side, rng.uniform(*ERASE_AREA), rng) for _ in range(count)]
    return [
        rectangle if chance < probability else None
        for rectangle, chance in zip(rectangles, chances, strict=True)
    ]


def erase(images: Tensor, rectangles: Sequence[Rectangle | None]) -> None:
    """Fill the rectangle of each image that has one with grey, in place: N x 3 x H x W in [0, 1]."""
    for image, rectangle in zip(images, rectangles, strict=True):
        if rectangle is not None:
            top, left, down, right = rectangle
            image[:, top:down, left:right] = ERASE_VALUE


def mix(images: Tensor, labels: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Mixed | None:
    """MixUp or CutMix the batch with itself in reverse order; None where both are switched off.

    The share is drawn once a batch; for CutMix it is the area that really was kept.
    """
    if not (augmentation.mixup or augmentation.cutmix):
        return None
    cut = augmentation.cutmix > 0 and (augmentation.mixup == 0 or rng.random() < 0.5)
    alpha = augmentation.cutmix if cut else augmentation.mixup
    share = float(rng.beta(alpha, alpha))
    others, other_labels = images.flip(0), labels.flip(0)
    if not cut:
        return Mixed(torch.lerp(others, images, share), labels, other_labels, share)
    height, width = images.shape[-2:]
    top, left, down, right = _rectangle(height, width, 1 - share, rng)
    images[:, :, top:down, left:right] = others[:, :, top:down, left:right]
    return Mixed(images, labels, other_labels, 1 - (down - top) * (right - left) / (height * width))


def _rectangle(height: int, width: int, area: float, rng: np.random.Generator) -> Rectangle:
    """A rectangle of `area` of the image with the image's proportions."""
    tall, wide = round(height * area**0.5), round(width * area**0.5)
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    return Rectangle(top, left, top + tall, left + wide)

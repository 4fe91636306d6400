"""Blurs: of a lens, of a hand that moves, of a camera that comes closer.

Each takes one image, uint8 H x W x 3, and returns it blurred. Levels are lengths in pixels of a 64 x 64 image, and grow
with the shorter side. Pixels beyond the border are those at it.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from resattn.evaluation.pixels import Floats, Pixels, side_ratio, to_pixels, to_unit


class Tap(NamedTuple):
    """One summand of a blur: the pixel `down` and `across` from here, and how much it weighs."""

    down: int
    across: int
    weight: float


def gaussian_blur(image: Pixels, deviation: float, _: np.random.Generator) -> Pixels:
    """Blur with a normal distribution, cut at four standard deviations."""
    weights = _normal_weights(deviation * side_ratio(image))
    reach = len(weights) // 2
    taps = [(place - reach, weight) for place, weight in enumerate(weights)]
    rows = _blurred(to_unit(image), [Tap(shift, 0, weight) for shift, weight in taps])
    return to_pixels(_blurred(rows, [Tap(0, shift, weight) for shift, weight in taps]))


def defocus_blur(image: Pixels, level: tuple[float, float], _: np.random.Generator) -> Pixels:
    """Blur with a disk: its radius, and the standard deviation that softens its rim (this one does not grow)."""
    radius, softness = level
    return to_pixels(_blurred(to_unit(image), _disk(radius * side_ratio(image), softness)))


def motion_blur(image: Pixels, deviation: float, random: np.random.Generator) -> Pixels:
    """Smear along a line at an angle between -45 and 45 degrees, by half a normal distribution.

    As ImageMagick's motion blur with a radius that cuts nothing off.
    """
    angle = random.uniform(-np.pi / 4, np.pi / 4)
    weights = _normal_weights(deviation * side_ratio(image))
    half = weights[len(weights) // 2 :]
    steps = np.arange(len(half))
    down, across = np.rint(steps * np.sin(angle)), np.rint(steps * np.cos(angle))
    return to_pixels(
        _blurred(
            to_unit(image),
            [Tap(int(y), int(x), w) for y, x, w in zip(down, across, half / half.sum(), strict=True)],
        )
    )


def zoom_blur(image: Pixels, farthest: float, _: np.random.Generator) -> Pixels:
    """Average the image with its enlargements from 1 up to `farthest` times, in steps of 0.01."""
    whole = Image.fromarray(image)
    # As theirs: NumPy's way with steps that are no exact binary number is part of the definition.
    factors = np.arange(1, farthest, 0.01)
    total = image.astype(np.uint32)
    for factor in factors:
        left, top = (side * (1 - 1 / factor) / 2 for side in whole.size)
        box = (left, top, whole.width - left, whole.height - top)
        total += np.asarray(whole.resize(whole.size, Image.Resampling.BILINEAR, box=box))
    return np.rint(total / np.float32(len(factors) + 1)).astype(np.uint8)


def _blurred(unit: Floats, taps: Iterable[Tap]) -> Floats:
    """The weighted sum of shifted copies; of H x W x 3 floats."""
    taps = list(taps)
    height, width = unit.shape[:2]
    reach = max(max(abs(tap.down), abs(tap.across)) for tap in taps)
    padded = np.pad(unit, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    total = np.zeros_like(unit)
    for down, across, weight in taps:
        top, left = reach + down, reach + across
        total += np.float32(weight) * padded[top : top + height, left : left + width]
    return total


@lru_cache(maxsize=64)
def _normal_weights(deviation: float) -> Floats:
    """A normal distribution at whole numbers from -4 to 4 standard deviations; sums to 1."""
    reach = int(4 * deviation + 0.5)
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (places / max(deviation, 1e-6)) ** 2)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


@lru_cache(maxsize=64)
def _disk(radius: float, softness: float) -> tuple[Tap, ...]:
    """A disk on whole numbers, blurred with a normal distribution over three; weights sum to 1."""
    reach = int(radius) + 1
    places = np.arange(-reach, reach + 1)
    sharp = (places[:, None] ** 2 + places**2 <= radius**2).astype(np.float64)
    soft = np.exp(-0.5 * (np.array([-1, 0, 1]) / softness) ** 2)
    rim = np.outer(soft, soft) / soft.sum() ** 2
    # What lies on the rim spreads by one more pixel.
    padded = np.pad(sharp / sharp.sum(), 2)
    side = 2 * reach + 3
    disk = sum(
        rim[down, across] * padded[down : down + side, across : across + side]
        for down in range(3)
        for across in range(3)
    )
    return tuple(
        Tap(int(down) - reach - 1, int(across) - reach - 1, float(disk[down, across]))
        for down, across in np.argwhere(np.asarray(disk) > 1e-6)
    )

"""Common corruptions of images: thirteen families at five severities, after Hendrycks & Dietterich 2019.

Families and levels are those of Tiny ImageNet-C (arXiv 1903.12261; `make_tinyimagenet_c.py` in the authors'
repository), made for 64 x 64 pixels: twelve of its fifteen families, and Gaussian blur, which the authors keep for
validation, in place of glass blur. Frost, which needs photographs, and snow are left out. These departures are ours:

- Lengths in pixels grow with the shorter side, so that an image of another size is corrupted to the same share.
- Pixels are rounded where theirs are cut off, and no JPEG of quality 85 follows every corruption.
- Borders repeat the outermost pixel in all blurs; the elastic transform interpolates once, not twice.
- The random numbers are our own: one stream an image and family, the same at all severities.

Accuracies are therefore not comparable with those on the official files (the authors' issue 16 tells by how much such
copies differ), which `resattn.evaluation.robustness` reads too. Severities of one family are ordered by the authors'
judgement: their elastic transform moves whole images farthest at severity 1, and tears them most at 5.
"""

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from resattn.evaluation.corruption_blurs import defocus_blur, gaussian_blur, motion_blur, zoom_blur
from resattn.evaluation.corruption_fields import elastic_transform, fog
from resattn.evaluation.pixels import Pixels, to_pixels, to_unit

Kind = Literal["noise", "blur", "weather", "digital", "other"]
SEVERITIES = (1, 2, 3, 4, 5)
# Steps of the Poisson distribution in shot noise.
QUANTILES = 4096


@dataclass(frozen=True)
class Corruption:
    """A family of corruptions: `apply(image, level, random)` at each of five `levels`, mildest first.

    `apply` takes and returns one image, uint8 H x W x 3, and draws from `random` alone.
    """

    kind: Kind
    apply: Callable[[Pixels, Any, np.random.Generator], Pixels]
    levels: tuple[Any, Any, Any, Any, Any]


def corrupt(images: Pixels, family: str, severity: int, *, seeds: Sequence[int] | npt.NDArray[Any]) -> Pixels:
    """Corrupt uint8 images, N x H x W x 3, as `family` (a key of FAMILIES) does at `severity`, 1 to 5.

    `seeds` are N numbers, 0 or more, one an image: image and seed determine the result, whatever else is in the batch.
    Raises ValueError for a severity that is none, and KeyError for a family that is none.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}, not one of 1 to 5")
    corruption = FAMILIES[family]
    level, stream = corruption.levels[severity - 1], zlib.crc32(family.encode())
    corrupted = np.empty_like(images)
    for place, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        corrupted[place] = corruption.apply(image, level, np.random.default_rng([stream, int(seed)]))
    return corrupted


def gaussian_noise(image: Pixels, deviation: float, random: np.random.Generator) -> Pixels:
    """Add normal noise to every channel; `deviation` as a share of the whole range."""
    noise = random.standard_normal(image.shape, dtype=np.float32)
    return to_pixels(to_unit(image) + np.float32(deviation) * noise)


def shot_noise(image: Pixels, photons: float, random: np.random.Generator) -> Pixels:
    """Count light in quanta, of which white has `photons` on average: Poisson's distribution, in 4,096 equal steps."""
    steps = random.integers(QUANTILES, size=image.shape, dtype=np.uint16)
    return _shot_table(photons)[image, steps]


@lru_cache(maxsize=len(SEVERITIES))
def _shot_table(photons: float) -> Pixels:
    """What a pixel becomes, by its value and by which of the equal steps was drawn: 256 x 4096."""
    # Beyond ten standard deviations of the brightest pixel nothing is drawn.
    counts = np.arange(int(photons + 10 * np.sqrt(photons)) + 1)
    log_factorials = np.concatenate([[0.0], np.log(counts[1:]).cumsum()])
    means = np.maximum(np.arange(256) * photons / 255, 1e-12)[:, None]
    cumulated = np.exp(counts * np.log(means) - means - log_factorials).cumsum(axis=1)
    steps = (np.arange(QUANTILES) + 0.5) / QUANTILES
    drawn = np.stack([np.searchsorted(row, steps) for row in cumulated])
    return to_pixels((drawn / photons).astype(np.float32))


def impulse_noise(image: Pixels, share: float, random: np.random.Generator) -> Pixels:
    """Salt and pepper: `share` of all values become 0 or 255, each channel for itself."""
    draws = random.random(image.shape, dtype=np.float32)
    salted = np.where(draws > 1 - share / 2, np.uint8(255), image)
    return np.where(draws < share / 2, np.uint8(0), salted)


def brightness(image: Pixels, gain: float, _: np.random.Generator) -> Pixels:
    """Add `gain` to the value of hue, saturation and value, up to 1."""
    unit = to_unit(image)
    value = unit.max(axis=2, keepdims=True)
    # With hue and saturation kept, all three channels grow by the same factor; black, which has neither, becomes grey.
    factor = np.minimum(value + np.float32(gain), 1) / np.maximum(value, np.float32(1e-6))
    return to_pixels(np.where(value > 0, unit * factor, np.float32(gain)))


def contrast(image: Pixels, share: float, _: np.random.Generator) -> Pixels:
    """Leave `share` of each value's distance to its channel's mean."""
    unit = to_unit(image)
    means = unit.mean(axis=(0, 1), keepdims=True)
    return to_pixels(means + np.float32(share) * (unit - means))


def pixelate(image: Pixels, share: float, _: np.random.Generator) -> Pixels:
    """Shrink both sides to `share` with a box filter, and enlarge again."""
    whole = Image.fromarray(image)
    small = max(1, int(whole.width * share)), max(1, int(whole.height * share))
    return np.asarray(whole.resize(small, Image.Resampling.BOX).resize(whole.size, Image.Resampling.BOX))


def jpeg_compression(image: Pixels, quality: int, _: np.random.Generator) -> Pixels:
    """Write and read a JPEG file of `quality`, 1 to 95, with colours at half resolution (Pillow's default)."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as written:
        return np.asarray(written)


# Deviations, radii and shifts in pixels of a 64 x 64 image; what each level means is said where it is used.
FAMILIES: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption("noise", gaussian_noise, (0.04, 0.08, 0.12, 0.15, 0.18)),
    "shot_noise": Corruption("noise", shot_noise, (250, 100, 50, 30, 15)),
    "impulse_noise": Corruption("noise", impulse_noise, (0.01, 0.02, 0.05, 0.08, 0.14)),
    "gaussian_blur": Corruption("blur", gaussian_blur, (0.5, 0.75, 1, 1.25, 1.5)),
    "defocus_blur": Corruption(
        "blur", defocus_blur, ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1))
    ),
    "motion_blur": Corruption("blur", motion_blur, (1, 1.5, 2, 2.5, 3)),
    "zoom_blur": Corruption("blur", zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "fog": Corruption("weather", fog, ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75))),
    "brightness": Corruption("weather", brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption("digital", contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Corruption(
        "digital",
        elastic_transform,
        ((0, 0, 5.12), (3.2, 19.2, 3.84), (6.4, 5.12, 3.84), (6.4, 1.92, 1.92), (10.24, 1.92, 1.28)),
    ),
    "pixelate": Corruption("digital", pixelate, (0.9, 0.8, 0.7, 0.6, 0.5)),
    "jpeg_compression": Corruption("digital", jpeg_compression, (65, 58, 50, 40, 25)),
}

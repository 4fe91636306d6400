"""Corruptions by random fields: fog that lies over an image, and a sheet of rubber that it is printed on.

Each takes one image, uint8 H x W x 3, and returns it corrupted.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from resattn.evaluation.pixels import Floats, Pixels, side_ratio, to_pixels, to_unit

Field = npt.NDArray[np.float64]


def fog(image: Pixels, level: tuple[float, float], random: np.random.Generator) -> Pixels:
    """Add a cloud and scale the sum back to the image's own maximum.

    level: how bright the densest place is, and by what the roughness falls from one scale to the next finer one.
    """
    density, decay = level
    unit = to_unit(image)
    height, width = unit.shape[:2]
    cloud = plasma(max(height, width), decay, random)[:height, :width, None]
    brightest = unit.max()
    return to_pixels((unit + np.float32(density) * cloud) * (brightest / (brightest + np.float32(density))))


def plasma(side: int, decay: float, random: np.random.Generator) -> Floats:
    """A cloud by the diamond-square algorithm, at least `side` x `side`, values 0 to 1, seamless at its edges.

    Midpoints are the mean of their four neighbours and a random number, uniform in plus or minus (100 / decay^k)^2 at
    the k-th scale.
    """
    step = size = 1 << max(side - 1, 1).bit_length()
    draws = random.uniform(-1, 1, (size, size))
    heights = np.zeros((size, size))
    roughness = 100.0
    while step >= 2:
        half, swing = step // 2, roughness**2
        corners = heights[::step, ::step]
        beside, below = corners + np.roll(corners, -1, 1), corners + np.roll(corners, -1, 0)
        centres = (beside + np.roll(beside, -1, 0)) / 4 + swing * draws[half::step, half::step]
        heights[half::step, half::step] = centres
        heights[::step, half::step] = (beside + centres + np.roll(centres, 1, 0)) / 4
        heights[half::step, ::step] = (below + centres + np.roll(centres, 1, 1)) / 4
        heights[::step, half::step] += swing * draws[::step, half::step]
        heights[half::step, ::step] += swing * draws[half::step, ::step]
        step, roughness = half, roughness / decay
    heights -= heights.min()
    cloud: Floats = (heights / heights.max()).astype(np.float32)
    return cloud


def elastic_transform(
    image: Pixels, level: tuple[float, float, float], random: np.random.Generator
) -> Pixels:
    """Move three points of the image, the rest with them, and shake what lies between.

    level: how far smoothed uniform noise moves a pixel, the standard deviation that smooths it, and how far each of the
    three points moves at most along either axis; all in pixels of a 64 x 64 image, growing with the shorter side.
    Beyond the border the image is mirrored.
    """
    reach, deviation, jitter = (side_ratio(image) * length for length in level)
    height, width = image.shape[:2]
    shakes = random.uniform(-1, 1, (2, height, width))
    moves = _affine((width, height), random.uniform(-jitter, jitter, (3, 2)))
    if reach:
        shakes = _smoothing(height, deviation) @ shakes @ _smoothing(width, deviation).T
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    places = np.stack([across + reach * shakes[0], down + reach * shakes[1], np.ones((height, width))], 2)
    # From pixels to what `grid_sample` calls them: -1 and 1 are the centres of the outermost ones.
    grid = 2 * (places @ moves) / np.maximum([width - 1, height - 1], 1) - 1
    batch = torch.from_numpy(to_unit(image)).permute(2, 0, 1)[None]
    warped = functional.grid_sample(
        batch, torch.from_numpy(grid.astype(np.float32))[None], padding_mode="reflection", align_corners=True
    )
    return to_pixels(warped[0].permute(1, 2, 0).numpy())


def _affine(size: tuple[int, int], offsets: Field) -> Field:
    """The affine map, 3 x 2, that takes three points moved by `offsets` (3 x 2) back to where they were.

    size: width and height. The points are three corners of a square around the middle, two thirds of the shorter side
    wide.
    """
    middle, arm = np.array(size) / 2, min(size) / 3
    points = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    return np.asarray(np.linalg.solve(np.column_stack([points + offsets, np.ones(3)]), points), np.float64)


@lru_cache(maxsize=32)
def _smoothing(length: int, deviation: float) -> Field:
    """Blurring along an axis as a matrix, length x length: normal, cut at three deviations, mirrored at the ends."""
    reach = int(3 * deviation + 0.5)
    shifts = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (shifts / max(deviation, 1e-6)) ** 2)
    sources = (np.arange(length)[:, None] + shifts) % (2 * length)
    matrix = np.zeros((length, length))
    np.add.at(
        matrix,
        (np.arange(length)[:, None], np.minimum(sources, 2 * length - 1 - sources)),
        weights / weights.sum(),
    )
    return matrix

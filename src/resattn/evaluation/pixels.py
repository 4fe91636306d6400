"""Images as bytes and as numbers between 0 and 1."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
# The side, in pixels, of the images that lengths are given for.
REFERENCE_SIDE = 64


def to_unit(pixels: Pixels) -> Floats:
    """uint8 values as float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def to_pixels(unit: Floats) -> Pixels:
    """Numbers as uint8: those beyond 0 and 1 are cut off, the others rounded."""
    rounded: Pixels = np.rint(np.clip(unit, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded


def side_ratio(image: Pixels) -> float:
    """How many times as long the shorter side of an image (H x W x 3) is as that of a 64 x 64 one."""
    height, width = image.shape[:2]
    return int(min(height, width)) / REFERENCE_SIDE

"""Images of noise, of an odd size."""

import numpy as np

SIDE = 37


def images(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)

"""A data set small enough to train on in a test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resattn.data.image_folder import prepare_image_folder


@pytest.fixture
def dots(resattn_home: Path, tmp_path: Path) -> str:
    """The name of a prepared data set: two classes (red and blue noise), 120 images of 32x32 pixels."""
    rng = np.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        folder = tmp_path / "dots" / name
        folder.mkdir(parents=True)
        for number in range(60):
            pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += rng.integers(40, 130, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    prepare_image_folder(tmp_path / "dots", name="dots", size=32, val_share=0.2)
    return "dots"

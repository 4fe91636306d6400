"""TensorFlow 1's bilinear rule, against its own published test and against its definition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resattn.models.tensorflow_resize import tensorflow_resize


def by_definition(image: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Pixel by pixel, as TensorFlow's kernel: source = i * in / out, floor, the next one clamped."""
    rows, columns = image.shape
    result = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y, x = i * rows / height, j * columns / width
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            upper = image[top, left] + (image[top, right] - image[top, left]) * (x - left)
            lower = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * (x - left)
            result[i, j] = upper + (lower - upper) * (y - top)
    return result


def test_gives_what_tensorflows_own_test_expects() -> None:
    # testResizeUpAlignCornersFalse of TensorFlow 1's image_ops_test.py, 3 x 2 -> 6 x 4
    image = torch.tensor([64.0, 32, 32, 64, 50, 100]).view(1, 1, 3, 2)
    expected = torch.tensor(
        [
            [64.0, 48.0, 32.0, 32.0],
            [48.0, 48.0, 48.0, 48.0],
            [32.0, 48.0, 64.0, 64.0],
            [41.0, 61.5, 82.0, 82.0],
            [50.0, 75.0, 100.0, 100.0],
            [50.0, 75.0, 100.0, 100.0],
        ]
    )
    torch.testing.assert_close(tensorflow_resize(image, (6, 4))[0, 0], expected, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 2**16),
)
def test_follows_the_definition_for_any_sizes(sizes: tuple[int, int, int, int], seed: int) -> None:
    rows, columns, height, width = sizes
    image = np.random.default_rng(seed).normal(size=(rows, columns))
    resized = tensorflow_resize(torch.from_numpy(image)[None, None], (height, width))[0, 0].numpy()
    np.testing.assert_allclose(resized, by_definition(image, height, width), rtol=0, atol=1e-9)


def test_by_two_repeats_and_averages() -> None:
    row = torch.tensor([3.0, 5.0, 11.0]).view(1, 1, 1, 3)
    assert tensorflow_resize(row, (1, 6)).flatten().tolist() == [3, 4, 5, 8, 11, 11]


def test_the_same_size_changes_nothing() -> None:
    image = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(tensorflow_resize(image, (5, 7)), image, rtol=0, atol=0)


@pytest.mark.parametrize("align_corners", [False, True])
def test_is_neither_mode_of_torch(align_corners: bool) -> None:
    image = torch.randn(1, 1, 4, 4)
    torchs = F.interpolate(image, size=(8, 8), mode="bilinear", align_corners=align_corners)
    assert not torch.allclose(tensorflow_resize(image, (8, 8)), torchs, atol=0.05)


def test_keeps_the_precision_under_autocast() -> None:
    image = torch.randn(1, 2, 3, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert tensorflow_resize(image, (6, 8)).dtype == torch.bfloat16


def test_is_differentiable() -> None:
    image = torch.randn(1, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tensorflow_resize(x, (7, 8)), image)

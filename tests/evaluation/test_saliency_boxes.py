"""Boxes around what stands out, against a search pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resattn.evaluation.saliency_boxes import overlap, saliency_boxes


def drawn(*rows: str) -> np.ndarray:
    """A map of digits: tenths."""
    return np.array([[int(digit) / 10 for digit in row] for row in rows], dtype=np.float32)[None]


def test_the_box_is_around_the_largest_region_above_the_threshold() -> None:
    saliency = drawn(
        "008000",
        "000000",
        "055000",
        "050003",
    )  # fmt: skip
    assert saliency_boxes(saliency, 0.6).tolist() == [[1, 2, 3, 4]]  # 0.5 of 0.8 reaches 0.6 of it
    assert saliency_boxes(saliency, 0.7).tolist() == [[2, 0, 3, 1]]
    assert saliency_boxes(drawn("900", "090", "000"), 0.5).tolist() == [[0, 0, 2, 2]], "corners touch"
    assert saliency_boxes(drawn("909"), 0.5).tolist() == [[0, 0, 1, 1]], "of equals the first"
    assert saliency_boxes(drawn("009", "900"), 0.5).tolist() == [[2, 0, 3, 1]], (
        "rows do not go on in the next"
    )


def test_maps_of_one_value_are_whole_images() -> None:
    for value in (0.0, 0.4):
        assert saliency_boxes(np.full((2, 3, 5), value), 1.0).tolist() == [[0, 0, 5, 3]] * 2


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1])
def test_thresholds_that_are_none(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        saliency_boxes(np.ones((1, 2, 2)), threshold)


def flooded(region: np.ndarray) -> list[int]:
    """The box of the largest region, by flooding from each pixel."""
    left_over = {(int(y), int(x)) for y, x in np.argwhere(region)}
    largest: list[tuple[int, int]] = []
    for start in sorted(left_over):
        found, edge = [], [start] if start in left_over else []
        left_over.discard(start)
        while edge:
            y, x = edge.pop()
            found.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left_over
            left_over -= near
            edge += near
        largest = max(largest, found, key=len)
    rows, columns = zip(*largest, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 1.0))
def test_boxes_agree_with_flooding(seed: int, height: int, width: int, threshold: float) -> None:
    maps = np.random.default_rng(seed).random((5, height, width))
    expected = [flooded(one >= threshold * one.max()) for one in maps]
    assert saliency_boxes(maps, threshold).tolist() == expected


def test_overlap_by_hand() -> None:
    box = [0, 0, 4, 4]
    others = np.array(
        [[0, 0, 4, 4], [0, 0, 4, 2], [2, 2, 6, 6], [4, 0, 8, 4], [9, 9, 9, 9]], dtype=np.float64
    )
    found = overlap(np.array([box] * 5, dtype=np.float64), others)
    assert found.tolist() == pytest.approx([1, 1 / 2, 4 / 28, 0, 0])
    assert overlap(others[4:], others[4:]).tolist() == [0]

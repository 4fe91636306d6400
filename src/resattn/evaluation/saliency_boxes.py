"""A box around what stands out of a saliency map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]
Map = npt.NDArray[np.floating[Any]]


def saliency_boxes(saliency: Map, threshold: float) -> Boxes:
    """The box of each map: around the largest connected region that reaches `threshold` times the map's maximum.

    saliency: N x H x W, not negative. threshold: above 0, at most 1. Returns N x 4, xyxy in pixels, edges (x1 and y1
    exclusive). Pixels that touch, corners included, are connected; of two regions of a size, the one whose first pixel
    comes first is taken. A map that is zero everywhere gives the whole image. Source: the box extraction of Choe et al.
    2020 (arXiv 2001.07437, section 3), with the size of a region counted in pixels. Raises ValueError for another
    threshold.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold lies above 0 and is at most 1, not {threshold}")
    return _boxes_of_largest(saliency >= threshold * saliency.max(axis=(1, 2), keepdims=True))


def overlap(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of each box with the one in the same place; both N x 4, xyxy in pixels, edges."""
    corners = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = corners.clip(min=0).prod(axis=1)
    either = sum((both[:, 2:] - both[:, :2]).prod(axis=1) for both in (boxes, others)) - shared
    return np.asarray(shared / np.where(either > 0, either, 1), dtype=np.float64)


def _boxes_of_largest(regions: npt.NDArray[np.bool_]) -> Boxes:
    """The box of the largest connected region of each N x H x W map; each has at least one pixel.

    All maps are searched at once, by their runs: the stretches of True within a row.
    """
    count, height, width = regions.shape
    # An empty column before each row and an empty row behind each map keep runs apart that are none in the map.
    row, whole = width + 1, (width + 1) * (height + 1)
    padded = np.zeros((count, height + 1, row), dtype=np.bool_)
    padded[:, :height, 1:] = regions
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    region = _connected(starts, ends, row)
    sizes = np.bincount(region, weights=ends - starts, minlength=len(starts))
    of_map = starts // whole
    # By map, then by size, the first region first among equals: the first run of each map is then of its largest.
    order = np.lexsort((region, -sizes[region], of_map))
    largest = region[order[np.searchsorted(of_map[order], np.arange(count))]]
    kept = np.flatnonzero(region == largest[of_map])
    left, top = starts[kept] % row - 1, starts[kept] // row % (height + 1)
    right = left + ends[kept] - starts[kept]
    # Runs are in order of the maps: what belongs to one lies together.
    first = np.searchsorted(of_map[kept], np.arange(count))
    corners: Sequence[npt.NDArray[Any]] = (
        np.minimum.reduceat(left, first),
        np.minimum.reduceat(top, first),
        np.maximum.reduceat(right, first),
        np.maximum.reduceat(top + 1, first),
    )
    return np.stack(corners, axis=1).astype(np.float64)


def _connected(starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], row: int) -> npt.NDArray[np.intp]:
    """For each run, the number of the first run of the region it belongs to."""
    # The runs of the row below that touch a run are neighbours in the list: from `first` up to `last`.
    first = np.searchsorted(ends, starts + row, side="left")
    last = np.searchsorted(starts, ends + row, side="right")
    touching = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(starts)), touching)
    below = np.arange(len(above)) + np.repeat(first - np.cumsum(touching) + touching, touching)
    region = np.arange(len(starts))
    while True:
        before = region.copy()
        lower = np.minimum(region[above], region[below])
        # Not only the two runs but what they point to: regions that meet then join in few rounds.
        for which in (before[above], before[below], above, below):
            np.minimum.at(region, which, lower)
        region = region[region]
        if np.array_equal(region, before):
            return region

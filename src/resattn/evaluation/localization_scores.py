"""How well saliency maps find the object in a box: three scores, each a torchmetrics Metric over batches.

All take saliency, N x H x W, not negative, and boxes, N x 4, xyxy in pixels of the maps, edges (x1 and y1
exclusive), of more than no area. A pixel that a box covers in part counts in part.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from resattn.evaluation.saliency_boxes import overlap, saliency_boxes


class PointingGame(Metric):
    """The share of images where the map's maximum lies in the box (Zhang et al. 2018, arXiv 1608.00507, section 4.1).

    Of a maximum that several pixels share, each is as good a guess, so the share of them inside counts: a map of one
    value scores the box's share of the area. The paper's tolerance of 15 pixels is left out.
    """

    higher_is_better = True
    full_state_update = False
    hits: Tensor
    images: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("hits", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, saliency: Tensor, boxes: Tensor) -> None:
        """Add a batch."""
        peak = (saliency == saliency.amax(dim=(1, 2), keepdim=True)).double()
        inside = (peak * covered(boxes, saliency)).sum(dim=(1, 2)) / peak.sum(dim=(1, 2))
        self.hits += inside.sum()
        self.images += len(saliency)

    def compute(self) -> Tensor:
        """The share, 0 to 1."""
        return self.hits / self.images


class EnergyInBox(Metric):
    """How many times as much of the maps' sum lies in the boxes as would of a map that knows nothing.

    The mean share of a map's sum inside its box, over the mean share of the area inside: 1.0 knows nothing. (A mean of
    each image's own ratio would be that of the few smallest boxes.) A map of zeros has its energy everywhere alike.
    After the energy-based pointing game of Wang et al. 2020 (arXiv 1910.01279, section 4.3).
    """

    higher_is_better = True
    full_state_update = False
    energy: Tensor
    area: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("energy", "area"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, saliency: Tensor, boxes: Tensor) -> None:
        """Add a batch."""
        inside = covered(boxes, saliency)
        sums = saliency.double().sum(dim=(1, 2))
        alike = inside.mean(dim=(1, 2))
        share = (saliency * inside).sum(dim=(1, 2)) / sums.where(sums > 0, torch.ones_like(sums))
        self.energy += torch.where(sums > 0, share, alike).sum()
        self.area += alike.sum()

    def compute(self) -> Tensor:
        """The ratio, from 0 up."""
        return self.energy / self.area


class BoxAccuracy(Metric):
    """The share of images whose map, cut at a threshold, gives a box of IoU 0.5 or more with the right one.

    One share for each of `thresholds` (fractions of the map's maximum); how boxes are cut out: `saliency_boxes`.
    Source: MaxBoxAcc of Choe et al. 2020 (arXiv 2001.07437, section 3), which takes the best threshold of the very
    images it scores; here whoever asks says which.
    """

    higher_is_better = True
    full_state_update = False
    hits: Tensor
    images: Tensor

    def __init__(self, thresholds: Sequence[float], *, iou: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.thresholds = tuple(thresholds)
        self.iou = iou
        self.add_state("hits", torch.zeros(len(self.thresholds), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, saliency: Tensor, boxes: Tensor) -> None:
        """Add a batch."""
        maps, right = saliency.cpu().numpy(), boxes.cpu().numpy().astype(np.float64)
        for place, threshold in enumerate(self.thresholds):
            self.hits[place] += int((overlap(saliency_boxes(maps, threshold), right) >= self.iou).sum())
        self.images += len(saliency)

    def compute(self) -> Tensor:
        """The share at each threshold, 0 to 1."""
        return self.hits.double() / self.images


def covered(boxes: Tensor, saliency: Tensor) -> Tensor:
    """The share of each pixel that the box covers, N x H x W in [0, 1], float64."""
    height, width = saliency.shape[1:]
    boxes = boxes.to(device=saliency.device, dtype=torch.float64)
    across, down = (
        _covered_along(boxes[:, first], boxes[:, first + 2], length)
        for first, length in ((0, width), (1, height))
    )
    return down[:, :, None] * across[:, None, :]


def _covered_along(low: Tensor, high: Tensor, length: int) -> Tensor:
    """N edges, low and high, to the covered share of each of `length` pixels in a row, N x length."""
    pixels = torch.arange(length, dtype=low.dtype, device=low.device)
    ends = torch.minimum(high[:, None], pixels + 1)
    return (ends - torch.maximum(low[:, None], pixels)).clamp(0, 1)

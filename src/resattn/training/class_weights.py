"""Classes of unequal size: how much an image of each counts in the loss, and when that is worth a word."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Times as many images as the smallest class from which the largest is told.
UNEVEN = 5


def balanced_weights(labels: NDArray[np.int64], classes: int) -> Tensor:
    """The weight of an image by its class, float32: in inverse proportion to the class's images, 1 in the mean of all.

    labels: N, from 0 to `classes` - 1. A class without an image weighs nothing, for none will ask.
    """
    counts = np.bincount(labels, minlength=classes)
    shares = np.divide(
        len(labels) / np.count_nonzero(counts), counts, out=np.zeros(classes), where=counts > 0
    )
    return torch.from_numpy(shares).float()


def told_if_uneven(labels: NDArray[np.int64], names: Sequence[str]) -> str:
    """A sentence where the largest class has many times the images of the smallest; empty where it has not."""
    counts = np.bincount(labels, minlength=len(names))
    few, many = int(counts.argmin()), int(counts.argmax())
    if counts[many] < UNEVEN * counts[few]:
        return ""
    return (
        f"{names[many]} has {counts[many]:,} training images and {names[few]} {counts[few]:,}: "
        "--class-weights balanced counts all classes alike"
    )

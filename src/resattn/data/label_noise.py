"""Wrong labels on purpose: how well does a way to train bear them?"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resattn.data.packed import PackedSplit

_STREAM = 0x1ABE1


def with_label_noise(split: PackedSplit, share: float, *, seed: int) -> PackedSplit:
    """The split with `share` of its labels, each by its own coin, turned into another class.

    Which ones, and into what, follows from `seed` and stays so for the whole run; every other class is as likely as any
    (symmetric noise, as in Wang et al. 2017, section 4.1). Unlabelled images stay so.
    """
    if share == 0:
        return split
    return replace(split, labels=noisy_labels(split.labels, share, classes=len(split.class_ids), seed=seed))


def noisy_labels(labels: NDArray[np.int64], share: float, *, classes: int, seed: int) -> NDArray[np.int64]:
    """A copy of the labels with `share` of them replaced; see `with_label_noise`. With one class none is."""
    rng = np.random.default_rng([seed, _STREAM])
    wrong = (rng.random(len(labels)) < share) & (labels >= 0) & (classes > 1)
    away = rng.integers(1, max(classes, 2), len(labels))
    return np.where(wrong, (labels + away) % classes, labels)

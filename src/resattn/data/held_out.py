"""The training images that tuning sets aside, so that the validation split is read for reports only.

A fixed, stratified twentieth of `train`: in every class the images whose names have the smallest SHA-256. That depends
on no generator, no order and no other class, so a study that is run again years later holds out the same images.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HELD_OUT_SHARE = 0.05
# Splits that are no files: `kept` and `held-out` are `train`, divided.
KEPT, HELD_OUT = "kept", "held-out"


def held_out_rows(labels: NDArray[np.int64], file_names: Sequence[str]) -> NDArray[np.bool_]:
    """Which images are held out: a bool for each. Every class gives 5 %, rounded; at least one, and never its last."""
    # File names that are no valid Unicode hold lone surrogates.
    encoded = (name.encode("utf-8", "surrogatepass") for name in file_names)
    digests = np.array([hashlib.sha256(name).hexdigest() for name in encoded])
    held = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(HELD_OUT_SHARE * len(rows))), len(rows) - 1)
        held[rows[np.argsort(digests[rows], kind="stable")[:count]]] = True
    return held

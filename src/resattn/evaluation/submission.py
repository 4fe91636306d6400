"""Predictions for an unlabelled split, in the file format of the data set's own evaluation server."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.evaluation.inference import (
    Flip,
    average_with_mirrored,
    log_probabilities,
    network_input,
    progress_bar,
    require_same_classes,
    row_batches,
    running,
)
from resattn.files import whole_text_file
from resattn.hardware import Execution, reference_execution


def write_submission(
    network: nn.Module,
    split: PackedSplit,
    path: Path,
    *,
    batch_size: int = 256,
    execution: Execution | None = None,
    flip: Flip = "none",
    progress: bool = True,
) -> int:
    """Write one line `test_0.JPEG n02948072` for each image of `split`; returns the number of lines.

    Lines are in natural order of the file names (test_2 before test_10), and each prediction is paired with
    the file name of its own row. `flip="average"` decides by the mean probability of image and mirror image.
    The file is written whole or not at all. Raises ResattnError for classes that are not the network's, for a
    split without images and where `path` cannot be written.
    """
    require_same_classes(network, split)
    if not split.file_names:
        raise ResattnError(f"the {split.split} split of {split.data} has no images", "choose another --split")
    execution = execution or reference_execution()
    predicted = np.empty(len(split.file_names), dtype=np.int64)
    shown = progress_bar(progress, len(predicted), f"predicting {split.data} {split.split}")
    with running(network, execution), shown as advance:
        for rows in row_batches(np.arange(len(predicted)), batch_size):
            images = network_input(split.images[rows], execution)
            log_probs = log_probabilities(network(images))
            if flip == "average":
                log_probs = average_with_mirrored(network, images, log_probs)
            predicted[rows] = log_probs.argmax(dim=1).cpu().numpy()
            advance(len(rows))
    _write(path, split, predicted)
    return len(predicted)


def _write(path: Path, split: PackedSplit, predicted: npt.NDArray[np.int64]) -> None:
    order = sorted(range(len(predicted)), key=lambda row: natural_order(split.file_names[row]))
    with whole_text_file(path) as file:
        for row in order:
            file.write(f"{split.file_names[row]} {split.class_ids[predicted[row]]}\n")


def natural_order(name: str) -> tuple[tuple[str, int], ...]:
    """Sort key under which digits count as numbers: test_2 comes before test_10."""
    return tuple((text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name))

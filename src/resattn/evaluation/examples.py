"""A look at what a network makes of single images of a split, and where its masks look."""

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import nn

from resattn import figures
from resattn.data.packed import PackedSplit
from resattn.evaluation.inference import evenly_spaced, log_probabilities, network_input, running
from resattn.hardware import Execution, reference_execution

LIKELIEST = 5


def examples_sheet(
    network: nn.Module,
    split: PackedSplit,
    *,
    count: int = 12,
    rows: npt.NDArray[np.int64] | None = None,
    execution: Execution | None = None,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw `count` images, evenly spaced over the split, with masks, the likeliest classes and the right one.

    `rows` are images to draw in their place. `network` has `forward_with_masks`; one without attention gives a sheet
    without masks.
    """
    execution = execution or reference_execution()
    if rows is None:
        rows = evenly_spaced(np.arange(len(split.images)), count)
    with running(network, execution):
        logits, masks = network.forward_with_masks(network_input(split.images[rows], execution))  # type: ignore[operator]
        shares, classes = torch.topk(log_probabilities(logits).exp(), min(LIKELIEST, len(split.class_ids)))
    labels = split.labels[rows]
    return figures.predictions_sheet(
        split.images[rows],
        [[split.class_names[k] for k in likeliest] for likeliest in classes.tolist()],
        shares.cpu().numpy(),
        {key: mask.float().cpu().numpy() for key, mask in masks.items()},
        truths=[split.class_names[k] for k in labels] if (labels >= 0).all() else None,
        title=title,
        subtitle=subtitle,
    )

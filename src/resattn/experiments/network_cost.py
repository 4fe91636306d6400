"""What a recipe's network and a step of its training cost, counted without running either."""

import json
from collections import Counter
from functools import cache
from typing import NamedTuple

import torch

from resattn.data.packed import open_split
from resattn.models.cost import multiply_accumulates, parameters
from resattn.models.registry import build_described
from resattn.training.budget import PROBES
from resattn.training.job import training_batches
from resattn.training.recipe import Recipe


class NetworkCost(NamedTuple):
    """Learnable parameters, and multiply-accumulates of one image."""

    parameters: int
    macs: int


def network_cost(recipe: Recipe, size: int | None = None) -> NetworkCost:
    """What the recipe's network costs for images of `size`, the data's own where left out."""
    split = open_split(recipe.data)
    options = json.dumps(recipe.model_options, sort_keys=True)
    return _counted(recipe.model, options, len(split.class_ids), size or split.images.shape[1])


@cache
def _counted(model: str, options: str, classes: int, size: int) -> NetworkCost:
    with torch.device("meta"):
        network = build_described(model, num_classes=classes, options=json.loads(options))
    return NetworkCost(parameters(network), multiply_accumulates(network, size))


def training_cost(recipe: Recipe) -> float:
    """Multiply-accumulates of the forward passes of one step, the mean over the image sizes of a run.

    Raises ResattnError for data that is not prepared and a model that cannot be built.
    """
    batches = training_batches(recipe, open_split(recipe.data), count=PROBES)
    sizes = Counter(batches.size(number) for number in range(PROBES))
    mean = sum(count * network_cost(recipe, size).macs for size, count in sizes.items()) / PROBES
    return mean * recipe.batch_size * recipe.optimization.accumulate

"""Every named network with its cost, as `resattn models` lists it."""

from typing import TypedDict

import torch

from resattn.models.cost import multiply_accumulates, parameters
from resattn.models.pretrained import find_pretrained, pretrained_names
from resattn.models.registry import create_model, list_variants


class VariantDescription(TypedDict):
    """One row: parameters are the learnable ones, macs are of one image of side `input_size`, convolutions and linear
    layers only; `weights` is the file of the shipped weights and `top1` their accuracy, a fraction of 1, on the
    validation split of `data`: None where none ship."""

    model: str
    input_size: int
    classes: int
    parameters: int
    macs: int
    weights: str | None
    data: str | None
    top1: float | None


def describe_variants() -> list[VariantDescription]:
    """Describe all variants with their default options, in the order of `list_variants`; nothing is computed."""
    return [_describe(name) for name in list_variants()]


def _describe(name: str) -> VariantDescription:
    with torch.device("meta"):
        network = create_model(name)
    shipped = find_pretrained(name) if name in pretrained_names() else None
    size = int(network.pretrained_cfg["input_size"][-1])  # type: ignore[index]
    return {
        "model": name,
        "input_size": size,
        "classes": network.num_classes,
        "parameters": parameters(network),
        "macs": multiply_accumulates(network, size),
        "weights": str(shipped.file) if shipped else None,
        "data": shipped.data if shipped else None,
        "top1": shipped.top1 if shipped else None,
    }

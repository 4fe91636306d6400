"""What a network costs: learnable parameters and multiply-accumulates."""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from resattn.models.modes import evaluating


def parameters(model: nn.Module) -> int:
    """The number of learnable parameters; running statistics are none."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def multiply_accumulates(model: nn.Module, size: int | tuple[int, int]) -> int:
    """Multiply-accumulates of one forward pass over one image of `size` (a side, or height and width),
    exactly.

    Counts convolutions and linear layers, without their biases; pooling, normalisation, activation and
    resizing are not counted. Nothing is computed: the pass runs on the meta device and leaves `model` as it
    was.
    """
    height, width = (size, size) if isinstance(size, int) else size
    on_meta = {
        name: tensor.detach().to("meta")
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    first = next(parameter for parameter in model.parameters() if parameter.dim() == 4)
    images = torch.empty(1, first.shape[1], height, width, dtype=first.dtype, device="meta")
    # In training mode batch normalisation refuses one value per channel.
    with evaluating(model), FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(model, on_meta, (images,))
    # The counter counts a multiplication and an addition as two.
    return int(counter.get_total_flops()) // 2

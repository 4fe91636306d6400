"""The soft mask of the compact family: a spatial map plus a gate per channel, from few, cheap operators.

On a CPU small pooling, interpolation and normalisation operators cost far more time than their
multiply-accumulates say. So this hourglass does not mirror the paper's: strided convolutions narrow the
features to a few channels, each scale is read as one channel, and only those single channels are enlarged. (A
1x1 convolution and bilinear up-sampling commute, so nothing is lost by reading first.) The gate per channel
reads the hourglass's coarsest features, not the wide ones once more.
"""

from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from resattn.models.residual_units import convolution
from resattn.models.soft_mask import upsample

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
CompactActivation = Literal["sigmoid", "tanh"]


class CompactMask(nn.Module):
    """An activation of spatial + channel: logits of each position and of each channel, broadcast and summed.

    Maps N x channels x H x W to the same shape: in (0, 1) with the activation "sigmoid", in (-1, 1) with "tanh".

    Each of `depth` scales is a 3x3 convolution of stride 2 to `width` channels, BN and ReLU. A 1x1
    convolution reads each as one map; from the coarsest up they are enlarged bilinearly (corners aligned) to
    the size they meet, and summed: the spatial logits. The average of the coarsest features over positions,
    through one linear layer, is the channel logits (after Hu et al. 2018, arXiv 1709.01507). What reads
    begins at zero. So a sigmoid's mask is 0.5 everywhere at first and the module 1.5 T, which the next unit's BN
    absorbs; a tanh's is 0 and the module T, which it can come to silence as well as to double. Raises ValueError
    for another activation, and for no scale.
    """

    def __init__(
        self, channels: int, *, width: int = 32, depth: int = 2, activation: CompactActivation = "sigmoid"
    ) -> None:
        super().__init__()
        if activation not in get_args(CompactActivation):
            raise ValueError(
                f"mask_activation must be one of {get_args(CompactActivation)}, not {activation!r}"
            )
        if depth < 1:
            raise ValueError(f"a compact mask needs at least one scale, not {depth}")
        self.down = nn.ModuleList(
            nn.Sequential(
                convolution(channels if i == 0 else width, width, 3, 2),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for i in range(depth)
        )
        self.read = nn.ModuleList(_zeroed(nn.Conv2d(width, 1, 1, bias=False)) for _ in range(depth))
        # Its bias is every channel's: the maps need none of their own.
        self.gate = _zeroed(nn.Linear(width, channels))
        self.activation: CompactActivation = activation

    def logits(self, x: Tensor) -> Tensor:
        """N x channels x H x W, before the activation."""
        sizes = []
        maps = []
        for down, read in zip(self.down, self.read, strict=True):
            sizes.append(x.shape[-2:])
            x = down(x)
            maps.append(read(x))
        spatial = upsample(maps[-1], sizes[-1], "bilinear")
        for finer, size in zip(maps[-2::-1], sizes[-2::-1], strict=True):
            spatial = upsample(spatial + finer, size, "bilinear")
        channel: Tensor = self.gate(x.mean((2, 3)))
        # Summed as N x H x W x C: of two tensors that both broadcast, the sum would be contiguous whatever
        # the memory format of the network, and slow to multiply with channels-last features.
        return (spatial.permute(0, 2, 3, 1) + channel[:, None, None, :]).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """The mask, N x channels x H x W."""
        logits = self.logits(x)
        return torch.sigmoid(logits) if self.activation == "sigmoid" else torch.tanh(logits)


def _zeroed(layer: Layer) -> Layer:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

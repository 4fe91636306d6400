"""The soft mask of the compact family: a spatial map plus a gate per channel, from few, cheap operators.

On a CPU small pooling, interpolation and normalisation operators cost far more time than their
multiply-accumulates say. So this hourglass does not mirror the paper's: strided convolutions narrow the
features to a few channels, each scale is read as one channel, and only those single channels are enlarged. (A
1x1 convolution and bilinear up-sampling commute, so nothing is lost by reading first.) The gate per channel
reads the hourglass's coarsest features, not the wide ones once more.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from resattn.models.residual_units import convolution
from resattn.models.soft_mask import upsample

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class CompactMask(nn.Module):
    """sigmoid(spatial + channel): logits of each position and of each channel, broadcast to both and summed.

    Maps N x channels x H x W to N x channels x H x W in (0, 1).

    Each of `depth` scales is a 3x3 convolution of stride 2 to `width` channels, BN and ReLU. A 1x1
    convolution reads each as one map; from the coarsest up they are enlarged bilinearly (corners aligned) to
    the size they meet, and summed: the spatial logits. The average of the coarsest features over positions,
    through one linear layer, is the channel logits (after Hu et al. 2018, arXiv 1709.01507). What reads
    begins at zero, so the mask is 0.5 everywhere at first and the module 1.5 T, which the next unit's BN
    absorbs.
    """

    def __init__(self, channels: int, *, width: int = 32, depth: int = 2) -> None:
        super().__init__()
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

    def logits(self, x: Tensor) -> Tensor:
        """N x channels x H x W, before the sigmoid."""
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
        """The mask, N x channels x H x W in (0, 1)."""
        return torch.sigmoid(self.logits(x))


def _zeroed(layer: Layer) -> Layer:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

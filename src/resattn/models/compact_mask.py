"""The soft mask of the compact family: one spatial map and one gate per channel, made from few, cheap
operators.

On a CPU small pooling, interpolation and normalisation operators cost far more time than their
multiply-accumulates say. So this hourglass narrows the features to a few channels with strided convolutions,
reads one channel at each of its scales, and up-samples those single channels only: a 1x1 convolution and
bilinear up-sampling commute, so nothing is lost by reading before enlarging.
"""

from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resattn.models.residual_units import convolution

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class SpatialHourglass(nn.Module):
    """One logit per position, from context at 1/2, 1/4, ... of the resolution.

    Maps N x channels x H x W to N x 1 x H x W. Each of the `depth` scales is a 3x3 convolution of stride 2 to
    `width` channels, BN and ReLU; each gives a one-channel map through a 1x1 convolution, and the maps are
    summed from the coarsest up, bilinearly enlarged (corners aligned) to the size of the map they meet. The
    1x1 convolutions begin at zero, and so do the logits.
    """

    def __init__(self, channels: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(
                convolution(channels if i == 0 else width, width, 3, 2),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for i in range(depth)
        )
        self.read = nn.ModuleList(_zeroed(nn.Conv2d(width, 1, 1, bias=i == 0)) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W to N x 1 x H x W."""
        sizes = [x.shape[-2:]]
        maps: list[Tensor] = []
        for down, read in zip(self.down, self.read, strict=True):
            x = down(x)
            sizes.append(x.shape[-2:])
            maps.append(read(x))
        logits = maps.pop()
        sizes.pop()
        while sizes:
            enlarged = functional.interpolate(logits, size=sizes.pop(), mode="bilinear", align_corners=True)
            # Autocast resizes in float32; left so, every feature behind the mask would be float32 as well.
            logits = enlarged.to(logits.dtype)
            logits = logits + maps.pop() if maps else logits
        return logits


class ChannelGate(nn.Module):
    """One logit per channel: global average pool, linear, ReLU, linear (Hu et al. 2018, arXiv 1709.01507).

    Maps N x channels x H x W to N x channels x 1 x 1, through `hidden` features. The last layer begins at
    zero, and so do the logits.
    """

    def __init__(self, channels: int, *, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = _zeroed(nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W to N x channels x 1 x 1."""
        pooled = functional.relu(self.squeeze(x.mean((2, 3))))
        return cast(Tensor, self.excite(pooled)).unsqueeze(-1).unsqueeze(-1)


class CompactMask(nn.Module):
    """sigmoid(spatial logits + channel logits): which positions, times (roughly) which channels.

    Maps N x channels x H x W to N x channels x H x W in (0, 1). All logits begin at zero, the mask at 0.5
    everywhere: the module begins as 1.5 T, which the next unit's BN absorbs.
    """

    def __init__(self, channels: int, *, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.spatial = SpatialHourglass(channels, width=width, depth=depth)
        self.channel = ChannelGate(channels, hidden=width)

    def logits(self, x: Tensor) -> Tensor:
        """N x channels x H x W, before the sigmoid."""
        # Summed as N x H x W x C: of two tensors that each broadcast, the sum would be contiguous whatever
        # the network's memory format is, and channels-last features multiplied by it would lose theirs.
        spatial, channel = (
            cast(Tensor, part(x)).permute(0, 2, 3, 1) for part in (self.spatial, self.channel)
        )
        return (spatial + channel).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """The mask, N x channels x H x W in (0, 1)."""
        return torch.sigmoid(self.logits(x))


def _zeroed(layer: Layer) -> Layer:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

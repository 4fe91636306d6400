"""Residual units after blocks A, B and C of Inception-ResNet-v2 (Szegedy et al. 2016, arXiv 1602.07261,
section 3.2).

Each follows the contract of `residual_units`. Branches of Conv-BN-ReLU are concatenated and led to
`out_channels` by a linear 1x1 convolution with a bias; the ReLU comes after the sum of shortcut and *scaled*
residual (section 3.3: it keeps wide residual networks from dying early in training). The scales are those of
the authors' published code.

The authors gave every block its own list of widths. Here they are proportional to `out_channels`: the
proportions inside a unit are the published ones, and the base is such that a unit costs about what the
bottleneck in its place does. A unit that changes shape has a shortcut of 1x1 convolution and BN; along each
axis, the first convolution of a branch whose kernel spans it carries the stride. (The authors change shape
with reduction blocks, which have no shortcut.)
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from resattn.models.residual_units import projected_shortcut

Kernel = tuple[int, int]
Branch = tuple[tuple[int, Kernel], ...]  # its convolutions: output channels and kernel (height, width)


class InceptionResNetA(nn.Module):
    """Branches 1x1 | 1x1 - 3x3 | 1x1 - 3x3 - 3x3 of widths 2w | 2w - 2w | 2w - 3w - 4w, residual scaled by
    0.17.

    w = 3/64 of `out_channels`, which must be a multiple of 64 for the published proportions to hold exactly.
    """

    activates_output: ClassVar[bool] = True
    scale: ClassVar[float] = 0.17

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        w = max(1, 3 * out_channels // 64)
        self.branches = _branches(
            in_channels,
            stride,
            ((2 * w, (1, 1)),),
            ((2 * w, (1, 1)), (2 * w, (3, 3))),
            ((2 * w, (1, 1)), (3 * w, (3, 3)), (4 * w, (3, 3))),
        )
        self.conv = _linear_convolution(8 * w, out_channels)
        self.projection = projected_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H' x W'; not negative."""
        return _scaled_sum(x, self.branches, self.conv, self.projection, self.scale)


class InceptionResNetB(nn.Module):
    """Branches 1x1 | 1x1 - 1x7 - 7x1 of widths 6w | 4w - 5w - 6w, residual scaled by 0.10.

    w = 1/32 of `out_channels`: at 1024 channels the published widths, 192 | 128 - 160 - 192.
    """

    activates_output: ClassVar[bool] = True
    scale: ClassVar[float] = 0.10

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        w = max(1, out_channels // 32)
        self.branches = _branches(
            in_channels,
            stride,
            ((6 * w, (1, 1)),),
            ((4 * w, (1, 1)), (5 * w, (1, 7)), (6 * w, (7, 1))),
        )
        self.conv = _linear_convolution(12 * w, out_channels)
        self.projection = projected_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H' x W'; not negative."""
        return _scaled_sum(x, self.branches, self.conv, self.projection, self.scale)


class InceptionResNetC(nn.Module):
    """Branches 1x1 | 1x1 - 1x3 - 3x1 of widths 6w | 6w - 7w - 8w, residual scaled by 0.20.

    w = 1/32 of `out_channels`: at 2048 channels twice the published widths, 192 | 192 - 224 - 256.
    """

    activates_output: ClassVar[bool] = True
    scale: ClassVar[float] = 0.20

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        w = max(1, out_channels // 32)
        self.branches = _branches(
            in_channels,
            stride,
            ((6 * w, (1, 1)),),
            ((6 * w, (1, 1)), (7 * w, (1, 3)), (8 * w, (3, 1))),
        )
        self.conv = _linear_convolution(14 * w, out_channels)
        self.projection = projected_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H' x W'; not negative."""
        return _scaled_sum(x, self.branches, self.conv, self.projection, self.scale)


def _branches(in_channels: int, stride: int, *branches: Branch) -> nn.ModuleList:
    return nn.ModuleList(_branch(in_channels, stride, branch) for branch in branches)


def _branch(in_channels: int, stride: int, branch: Branch) -> nn.Sequential:
    layers: list[nn.Module] = []
    strides = _strides([kernel for _, kernel in branch], stride)
    for (width, kernel), step in zip(branch, strides, strict=True):
        padding = (kernel[0] // 2, kernel[1] // 2)
        conv = nn.Conv2d(in_channels, width, kernel, step, padding, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        in_channels = width
    return nn.Sequential(*layers)


def _strides(kernels: Sequence[Kernel], stride: int) -> list[tuple[int, int]]:
    """Each convolution's stride: along an axis the first kernel that spans it has `stride`, else the last."""
    carriers = [
        next((i for i, kernel in enumerate(kernels) if kernel[axis] > 1), len(kernels) - 1) for axis in (0, 1)
    ]
    return [
        (stride if i == carriers[0] else 1, stride if i == carriers[1] else 1) for i in range(len(kernels))
    ]


def _linear_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _scaled_sum(
    x: Tensor, branches: nn.ModuleList, conv: nn.Conv2d, projection: nn.Module | None, scale: float
) -> Tensor:
    residual = conv(torch.cat([branch(x) for branch in branches], dim=1))
    shortcut = x if projection is None else projection(x)
    return functional.relu(torch.add(shortcut, residual, alpha=scale), inplace=True)

"""The interchangeable residual units and their one contract.

A unit is made by a factory `unit(in_channels, out_channels, stride)` and maps N x in_channels x H x W to
N x out_channels x ceil(H / stride) x ceil(W / stride), for a stride of 1 or 2. Its shortcut is the identity
where the shape stays, else a 1x1 convolution. `activates_output` says whether what a unit returns has been
through a BN-ReLU already (post-activation units), so that whoever reads it next knows whether to put one
before its first convolution.

No convolution has a bias. Convolutions begin with He's normal initialisation (fan out, as torchvision's
ResNet).
"""

from typing import ClassVar, Protocol

from torch import Tensor, nn
from torch.nn import functional

from resattn.models.small_map_convolution import SmallMapConvolution


class UnitFactory(Protocol):
    """Whatever makes a residual unit: the classes of this file and of `inception_units`."""

    @property
    def activates_output(self) -> bool:
        """Whether the unit's output has been through a BN-ReLU already, and is not negative."""
        ...

    def __call__(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        """A unit that maps `in_channels` to `out_channels` at 1 / stride of the resolution."""
        ...


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A He-initialised convolution with "same" padding at stride 1: H -> ceil(H / stride) for odd kernels."""
    padding = (kernel_size - 1) // 2
    kind = nn.Conv2d if kernel_size == 1 or bias or groups > 1 else SmallMapConvolution
    layer = kind(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class PreActivationBasic(nn.Module):
    """BN-ReLU-3x3, BN-ReLU-3x3, plus the shortcut (He et al. 2016, arXiv 1603.05027).

    The first convolution carries the stride. The identity is the raw input; a projection reads the tensor
    after the first BN-ReLU. `gate` maps the residual to its weights before
    the sum: of the same shape, or of N x out_channels x 1 x 1.
    """

    activates_output: ClassVar[bool] = False

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, gate: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = convolution(in_channels, out_channels, 3, stride)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = convolution(out_channels, out_channels, 3)
        self.gate = gate
        self.projection = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H' x W'."""
        activated = functional.relu(self.norm1(x), inplace=True)
        shortcut = x if self.projection is None else self.projection(activated)
        residual = self.conv1(activated)
        residual = self.conv2(functional.relu(self.norm2(residual), inplace=True))
        if self.gate is not None:
            residual = residual * self.gate(residual)
        out: Tensor = shortcut + residual
        return out


class PreActivationBottleneck(nn.Module):
    """BN-ReLU-1x1 (a quarter of the channels), BN-ReLU-3x3 (stride), BN-ReLU-1x1, plus the shortcut.

    The unit of the paper's network. The identity is the raw input; a projection reads the tensor after the
    first BN-ReLU. Source: He et al. 2016 (arXiv 1603.05027), figure 4e, as in Wang et al.'s deploy files.
    """

    activates_output: ClassVar[bool] = False

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = convolution(in_channels, width, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, out_channels, 1)
        self.projection = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H' x W'."""
        activated = functional.relu(self.norm1(x), inplace=True)
        shortcut = x if self.projection is None else self.projection(activated)
        residual = self.conv1(activated)
        residual = self.conv2(functional.relu(self.norm2(residual), inplace=True))
        residual = self.conv3(functional.relu(self.norm3(residual), inplace=True))
        out: Tensor = shortcut + residual
        return out


class ResNeXtUnit(nn.Module):
    """1x1 (half the channels), 3x3 in 32 groups (stride), 1x1, each with BN; ReLU after the sum.

    Post-activation; a projection has its own BN. Source: Xie et al. 2017 (arXiv 1611.05431), figure 3c; equal
    to torchvision's bottleneck with groups=32. `out_channels` must be a multiple of 64.
    """

    activates_output: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 2
        self.conv1 = convolution(in_channels, width, 1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride, groups=32)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, out_channels, 1)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.projection = projected_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H' x W'; not negative."""
        residual = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        residual = functional.relu(self.norm2(self.conv2(residual)), inplace=True)
        residual = self.norm3(self.conv3(residual))
        shortcut = x if self.projection is None else self.projection(x)
        return functional.relu(shortcut + residual, inplace=True)


def projected_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """A post-activation unit's shortcut: 1x1 convolution and BN where the shape changes, else None."""
    projection = _projection(in_channels, out_channels, stride)
    return None if projection is None else nn.Sequential(projection, nn.BatchNorm2d(out_channels))


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
    if in_channels == out_channels and stride == 1:
        return None
    return convolution(in_channels, out_channels, 1, stride)

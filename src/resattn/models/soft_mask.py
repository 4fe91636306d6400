"""The soft mask branch of the paper: one recursive hourglass, a head of 1x1 convolutions, an activation.

Source: Wang et al. (arXiv 1704.06904), sections 3 and 3.2, as its authors' deploy files define it.
"""

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from resattn.models.residual_units import UnitFactory, convolution

MaskStructure = Literal["encoder_decoder", "local"]
MaskActivation = Literal["mixed", "channel", "spatial"]
MaskSkip = Literal["unit", "none"]
Upsampling = Literal["bilinear", "nearest"]


class CeilMaxPool(nn.Module):
    """3x3 max-pool of stride 2 without padding, H -> ceil((H - 1) / 2) for H > 1 and 1 -> 1.

    Equals `MaxPool2d(3, 2, 0, ceil_mode=True)` wherever that is defined; it is not for maps of one pixel,
    which stay.
    """

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to about half of H and W."""
        height, width = x.shape[-2:]
        # A window that hangs over the edge sees what a smaller one sees, so only maps of one pixel change
        # their meaning.
        return functional.max_pool2d(x, (min(3, height), min(3, width)), 2, 0, ceil_mode=True)


def upsample(x: Tensor, size: Sequence[int], mode: Upsampling) -> Tensor:
    """Resize N x C x H x W to `size` (height, width); bilinear means with aligned corners."""
    align_corners = True if mode == "bilinear" else None
    resized = functional.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners)
    # Autocast resizes in float32; left so, every feature behind the mask would be float32 as well.
    return resized.to(x.dtype)


class Hourglass(nn.Module):
    """Pool, units, a smaller hourglass inside, units, up: context for every position.

    Maps N x channels x H x W to the same shape. `depth` is the number of poolings, `units` the number of
    residual units (the paper's r) before and behind the inner hourglass. With `skip` "unit" the features
    before the inner hourglass are added to its output through one unit, and nothing else is added; with
    "none" they are not. The structure "local" leaves out pooling and up-sampling, and has the same
    convolutions, at full resolution (after the paper's comparison in table 3, whose local mask has fewer).
    """

    def __init__(
        self,
        channels: int,
        *,
        unit: UnitFactory,
        depth: int,
        units: int = 1,
        skip: MaskSkip = "unit",
        upsampling: Upsampling = "bilinear",
        structure: MaskStructure = "encoder_decoder",
    ) -> None:
        super().__init__()
        if depth < 1 or units < 1:
            raise ValueError(f"an hourglass needs at least one pooling and one unit, not {depth} and {units}")
        self.pool = CeilMaxPool() if structure == "encoder_decoder" else nn.Identity()
        self.encode = nn.Sequential(*(unit(channels, channels, 1) for _ in range(units)))
        self.inner: Hourglass | None = None
        self.skip: nn.Module | None = None
        if depth > 1:
            self.inner = Hourglass(
                channels,
                unit=unit,
                depth=depth - 1,
                units=units,
                skip=skip,
                upsampling=upsampling,
                structure=structure,
            )
            self.skip = unit(channels, channels, 1) if skip == "unit" else None
        self.decode = nn.Sequential(*(unit(channels, channels, 1) for _ in range(units)))
        self.upsampling: Upsampling = upsampling
        self.structure = structure

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W to the same shape."""
        size = x.shape[-2:]
        x = self.encode(self.pool(x))
        if self.inner is not None:
            inner = self.inner(x)
            x = inner if self.skip is None else inner + self.skip(x)
        x = self.decode(x)
        return upsample(x, size, self.upsampling) if self.structure == "encoder_decoder" else x


class SoftMask(nn.Module):
    """An hourglass, then [BN-ReLU-]1x1-BN-ReLU-1x1, then the activation.

    Maps N x channels x H x W to the same shape. `read` "normalized" puts a BN-ReLU before the first 1x1
    convolution, "as_is" does not, for hourglasses whose units end activated. The activation (section 3.2)
    gives

    - "mixed": sigmoid(x), in (0, 1);
    - "channel": x / ||x||, the norm taken over the channels at each position, in [-1, 1];
    - "spatial": sigmoid((x - mean) / std), both taken over the positions of each channel, in (0, 1).
    """

    def __init__(
        self,
        hourglass: nn.Module,
        channels: int,
        *,
        read: Literal["normalized", "as_is"] = "normalized",
        activation: MaskActivation = "mixed",
    ) -> None:
        super().__init__()
        if activation not in get_args(MaskActivation):
            raise ValueError(f"activation must be one of {get_args(MaskActivation)}, not {activation!r}")
        self.hourglass = hourglass
        first = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)] if read == "normalized" else []
        self.head = nn.Sequential(
            *first,
            convolution(channels, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            convolution(channels, channels, 1),
        )
        self.activation: MaskActivation = activation

    def logits(self, x: Tensor) -> Tensor:
        """N x channels x H x W, before the activation."""
        return cast(Tensor, self.head(self.hourglass(x)))

    def forward(self, x: Tensor) -> Tensor:
        """The mask, N x channels x H x W."""
        return activate(self.logits(x), self.activation)


def activate(logits: Tensor, activation: MaskActivation) -> Tensor:
    """The mask of N x C x H x W logits; see `SoftMask` for the three activations and their ranges."""
    # Autocast takes norms and roots in float32; left so, every feature behind the mask would be float32 as well.
    if activation == "channel":
        return functional.normalize(logits, dim=1).to(logits.dtype)
    if activation == "spatial":
        variance, mean = torch.var_mean(logits, dim=(2, 3), correction=0, keepdim=True)
        # As batch normalisation does, so that a map of one value, or of one pixel, has a mask: 0.5.
        logits = (logits - mean) * torch.rsqrt(variance + 1e-5).to(logits.dtype)
    return torch.sigmoid(logits)

"""The parts of the 2017 study's networks: units, reductions, residual inception, soft mask.

Source and departures: `resattn.models.seed_study`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resattn.models.tensorflow_resize import tensorflow_resize


def _normalization(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def seed_convolution(in_channels: int, out_channels: int, size: int, *, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps its input's size, or has a stride and no padding."""
    padding = size // 2 if stride == 1 else 0
    return nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=padding)


def _pre_activated(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return _normalization(in_channels), nn.ReLU(inplace=True), seed_convolution(in_channels, out_channels, 3)


class SeedUnit(nn.Module):
    """The study's residual module with pre-activation: 2 x (BN, ReLU, 3x3 convolution), added to the input.

    Keeps N x channels x H x W.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_pre_activated(channels, channels), *_pre_activated(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W, as the input."""
        return torch.add(x, self.residual(x))


class SeedDownUnit(nn.Module):
    """The study's widening residual module: BN, ReLU, 3x3, 2x2/2 max-pool, then 2 x (BN, ReLU, 3x3).

    The shortcut is the 2x2/2 average of the input, between equally many channels of zeros on both sides. Maps
    N x in_channels x H x W to N x out_channels x H // 2 x W // 2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_pre_activated(in_channels, out_channels),
            nn.MaxPool2d(2),
            *_pre_activated(out_channels, out_channels),
            *_pre_activated(out_channels, out_channels),
        )
        self.zeros_before = (out_channels - in_channels) // 2
        self.zeros_after = out_channels - in_channels - self.zeros_before

    def forward(self, x: Tensor) -> Tensor:
        """N x out_channels x H // 2 x W // 2."""
        shortcut = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, self.zeros_before, self.zeros_after))
        return torch.add(shortcut, self.residual(x))


class SeedReduction(nn.Module):
    """The study's inception reduction: max-pool beside two strided convolution branches, then ReLU.

    The 3x3/2 max-pool reads the raw input, the branches its batch normalisation: a 3x3/2 convolution to
    `width` channels, and a `lead` (convolutions that keep the size) to `lead_width` channels with a 3x3/2
    convolution to `width` after it. Maps N x C x H x W to N x (C + 2 width) x (H - 1) // 2 x (W - 1) // 2; H,
    W at least 3.
    """

    def __init__(self, channels: int, width: int, *, lead_width: int, lead: Sequence[nn.Module]) -> None:
        super().__init__()
        self.norm = _normalization(channels)
        self.short = seed_convolution(channels, width, 3, stride=2)
        self.long = nn.Sequential(*lead, seed_convolution(lead_width, width, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """N x (C + 2 width) x (H - 1) // 2 x (W - 1) // 2."""
        normalized = self.norm(x)
        branches = (F.max_pool2d(x, 3, stride=2), self.short(normalized), self.long(normalized))
        return F.relu(torch.cat(branches, dim=1))


class SeedResidualInception(nn.Module):
    """The study's residual inception module, in the manner of Inception-ResNet with purely linear branches.

    x <- ReLU(BN(x)); 1x1 128 beside 1x1 96, 3x3 96 beside 1x1 96, 3x3 96, 3x3 96; 1x1 back to `channels`;
    added to x; ReLU. Keeps N x channels x H x W.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _normalization(channels)
        self.short = seed_convolution(channels, 128, 1)
        self.middle = nn.Sequential(seed_convolution(channels, 96, 1), seed_convolution(96, 96, 3))
        self.long = nn.Sequential(
            seed_convolution(channels, 96, 1), seed_convolution(96, 96, 3), seed_convolution(96, 96, 3)
        )
        self.project = seed_convolution(128 + 96 + 96, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W, as the input."""
        x = F.relu(self.norm(x))
        branches = torch.cat((self.short(x), self.middle(x), self.long(x)), dim=1)
        return F.relu(x + self.project(branches))


class SeedMask(nn.Module):
    """The study's soft mask: pool and refine, enlarge and refine, 1x1 convolution, sigmoid; no skips.

    `encoder`: what follows each 2x2/2 max-pool; `decoder`: what follows each enlargement but the last. Each
    enlargement is TensorFlow's, to the size before the pooling it answers. Keeps N x channels x H x W; H and
    W at least 2 to the number of poolings; values in (0, 1).
    """

    def __init__(self, channels: int, *, encoder: Sequence[nn.Module], decoder: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList([*decoder, nn.Identity()])
        self.project = seed_convolution(channels, channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """The mask before its sigmoid, N x channels x H x W."""
        sizes = []
        for refine in self.encoder:
            sizes.append(x.shape[-2:])
            x = refine(F.max_pool2d(x, 2))
        for refine, size in zip(self.decoder, reversed(sizes), strict=True):
            x = refine(tensorflow_resize(x, size))
        projected: Tensor = self.project(x)
        return projected

    def forward(self, x: Tensor) -> Tensor:
        """The mask, N x channels x H x W, in (0, 1)."""
        return self.logits(x).sigmoid()

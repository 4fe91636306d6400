"""Squeeze-and-excitation: the control that attends to channels and not to places."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SqueezeExcitation(nn.Module):
    """sigmoid(W2 relu(W1 mean(x))): one weight for each channel, the same everywhere.

    Maps N x channels x H x W to N x channels x 1 x 1 in (0, 1), which a residual unit weights its residual with
    before the sum (Hu et al. 2018, arXiv 1709.01507, figure 3). `reduction` is the paper's r.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // reduction))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The weights, N x channels x 1 x 1 in (0, 1)."""
        weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        return weights[:, :, None, None]

"""Squeeze-and-excitation as a mask: the control that attends to channels and not to places."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SqueezeExcitation(nn.Module):
    """sigmoid(W2 relu(W1 mean(x))): one weight for each channel, the same everywhere.

    Maps N x channels x H x W to N x channels x 1 x 1 in (0, 1). As the mask of an attention module that learns naively,
    M * T, this is the block of Hu et al. 2018 (arXiv 1709.01507) in the mask's place, which is another than theirs: it
    reads the trunk's input rather than its output, and weights all of the trunk's output, the identity of its residual
    units included (their SE-POST), where their block weights the residual alone. `reduction` is the paper's r.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // reduction))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def logits(self, x: Tensor) -> Tensor:
        """N x channels x 1 x 1, before the sigmoid."""
        logits: Tensor = self.excite(functional.relu(self.squeeze(x.mean((2, 3)))))
        return logits[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """The mask, N x channels x 1 x 1 in (0, 1)."""
        return torch.sigmoid(self.logits(x))

"""Batch normalisation over the batch of all processes, so that a network does not notice how many there are."""

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn


class _Total(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose mean and variance in training are those of the images of all processes.

    torch's own `SyncBatchNorm` does that on GPUs only. Every process must bring as many images.
    """

    def forward(self, features: Tensor) -> Tensor:
        """N x C x H x W to the same, normalised."""
        if not self.training:
            return super().forward(features)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        values = features.to(torch.promote_types(features.dtype, torch.float32))
        count = distributed.get_world_size() * features.numel() // features.shape[1]
        mean = _total(values.sum((0, 2, 3))) / count
        centred = values - mean.view(-1, 1, 1)
        variance = _total(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            cast(Tensor, self.num_batches_tracked).add_(1)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return torch.addcmul(self.bias.view(-1, 1, 1), centred, scale.view(-1, 1, 1)).to(features.dtype)


def synchronize_norms(network: nn.Module, device: torch.device) -> None:
    """Exchange, in place, every batch normalisation of `network`; parameters, buffers and their names stay."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _synchronized(child, device))


def _synchronized(norm: nn.BatchNorm2d, device: torch.device) -> nn.Module:
    kind = nn.SyncBatchNorm if device.type == "cuda" else SynchronizedBatchNorm2d
    exchanged = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    exchanged.weight, exchanged.bias = norm.weight, norm.bias
    exchanged.running_mean, exchanged.running_var = norm.running_mean, norm.running_var
    exchanged.num_batches_tracked = norm.num_batches_tracked
    return exchanged.train(norm.training)


def _total(values: Tensor) -> Tensor:
    return cast(Tensor, _Total.apply(values))

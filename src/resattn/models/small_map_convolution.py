"""A convolution that trains as a product of matrices where maps are small and channels many.

On a CPU oneDNN's convolutions are slow where there are many more weights than positions: 512 channels on a map of
2x2 took 2.7 times as long as the same arithmetic as one product of all patches of the batch with the weights
(`benchmarks/small_maps.py`). Networks that train on small images end in such maps.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Of benchmarks/small_maps.py: from here on the product wins on the machine it was measured on.
WEIGHTS_PER_POSITION = 70_000


class SmallMapConvolution(nn.Conv2d):
    """An undivided, undilated nn.Conv2d without bias; in training on a CPU in float32, small maps go another way.

    Values and gradients agree with nn.Conv2d's up to rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """N x in_channels x H x W to N x out_channels x H' x W'."""
        if not (self.training and self._worthwhile(input)):
            return super().forward(input)
        padding = cast(int, self.padding[0])
        return cast(Tensor, PatchProduct.apply(input, self.weight, self.stride[0], padding))

    def _worthwhile(self, x: Tensor) -> bool:
        positions = -(-x.shape[2] // self.stride[0]) * -(-x.shape[3] // self.stride[1])
        return (
            self.weight.numel() >= WEIGHTS_PER_POSITION * positions
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
        )


class PatchProduct(torch.autograd.Function):
    """functional.conv2d(x, weight, None, stride, padding) as products of patches and weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        """N x C x H x W and K x C x k x k to N x K x H' x W'."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        patches = _patches(x, weight.shape[-1], stride, padding)
        batch, height, width = patches.shape[:3]
        out = patches.flatten(0, 2).flatten(1) @ _matrix(weight).T
        return out.view(batch, height, width, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """The gradients of x and weight."""
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        if ctx.needs_input_grad[1]:
            size = weight.shape[-1]
            patches = _patches(x, size, ctx.stride, ctx.padding).flatten(0, 2).flatten(1)
            of_weight = (rows.T @ patches).view(len(weight), size, size, -1).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            of_x = _gradient_of_input(rows, x.shape, gradient.shape, weight, ctx.stride, ctx.padding)
        return of_x, of_weight, None, None


def _matrix(weight: Tensor) -> Tensor:
    """K x C x k x k as K x (k k C), which is how channels-last weights lie in memory."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _patches(x: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """N x C x H x W as a view of N x H' x W' x k x k x C."""
    padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    # unfold puts the window last; channels belong there.
    return padded.unfold(1, size, stride).unfold(2, size, stride).permute(0, 1, 2, 4, 5, 3)


def _gradient_of_input(
    rows: Tensor, of: torch.Size, gradient: torch.Size, weight: Tensor, stride: int, padding: int
) -> Tensor:
    """Each patch's gradient, added where the patch was taken."""
    batch, channels, height, width = of
    size = weight.shape[-1]
    patches = (rows @ _matrix(weight)).view(batch, *gradient[2:], size, size, channels)
    padded = rows.new_zeros(batch, height + 2 * padding, width + 2 * padding, channels)
    places = padded.unfold(1, size, stride).unfold(2, size, stride).permute(0, 1, 2, 4, 5, 3)
    for i in range(size):
        for j in range(size):
            places[:, :, :, i, j].add_(patches[:, :, :, i, j])
    return padded[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)

"""Where does a 3x3 convolution train faster as one product of matrices?

Claim: from WEIGHTS_PER_POSITION weights for each position of the output map on, `SmallMapConvolution`'s product of
patches is the faster of the two; below, oneDNN's convolution is.

Forward and both gradients of one convolution, batch of 128, channels last, float32, in turns in one process; the peer
is torch's own functional.conv2d. Shapes are those that images of 32 to 64 pixels become in the last stages of
resattn_mini and resattn_small. A ratio above 1 says that the product is faster; "taken" is what the network does.

    python benchmarks/small_maps.py
"""

import measuring

measuring.like_the_command()

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from resattn.hardware import keep_freed_memory
from resattn.models.small_map_convolution import WEIGHTS_PER_POSITION, PatchProduct

BATCH = 128


class Shape(NamedTuple):
    """Channels in and out, side of the map that goes in, stride."""

    channels_in: int
    channels_out: int
    side: int
    stride: int

    @property
    def weights_per_position(self) -> float:
        """Weights of the kernel for each position of the output map."""
        return 9 * self.channels_in * self.channels_out / (-(-self.side // self.stride)) ** 2

    def __str__(self) -> str:
        return f"{self.channels_in} to {self.channels_out}, {self.side}x{self.side}, stride {self.stride}"


SHAPES = [
    Shape(channels, width, side, stride)
    for width in (256, 512)
    for channels, stride, sides in ((width // 2, 2, (4, 6, 8)), (width, 1, (2, 3, 4, 8)))
    for side in sides
]


def convolution(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The peer."""
    return functional.conv2d(x, weight, None, stride, 1)


def product(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Ours."""
    out: Tensor = PatchProduct.apply(x, weight, stride, 1)
    return out


def seconds(way: Callable[[Tensor, Tensor, int], Tensor], shape: Shape, repeats: int) -> float:
    """Of one forward and backward pass, the fastest of `repeats`."""
    last = torch.channels_last
    x = torch.randn(BATCH, shape.channels_in, shape.side, shape.side).to(memory_format=last)
    weight = torch.randn(shape.channels_out, shape.channels_in, 3, 3).to(memory_format=last)
    gradient = torch.randn_like(way(x, weight, shape.stride))
    fastest = float("inf")
    for _ in range(1 + repeats):
        inputs = (x.requires_grad_(), weight.requires_grad_())
        started = time.perf_counter()
        torch.autograd.grad(way(*inputs, shape.stride), inputs, gradient)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def main(argv: list[str] | None = None) -> None:
    """Print both times and their ratio for each shape."""
    options = measuring.parse(measuring.arguments(__doc__), argv, "small_maps")
    found = measuring.machine()
    keep_freed_memory()
    rounds, repeats = (1, 2) if options.short else (5, 10)
    results: dict[str, dict[str, Any]] = {}
    for shape in SHAPES:
        turns = measuring.alternate(
            {
                name: partial(seconds, way, shape, repeats)
                for name, way in (("convolution", convolution), ("product", product))
            },
            rounds,
        )
        results[str(shape)] = {
            **{f"{name}_seconds": measuring.Spread.of(values).to_json() for name, values in turns.items()},
            "ratio": measuring.ratios(turns["convolution"], turns["product"]).to_json(),
            "weights_per_position": shape.weights_per_position,
            "taken": "product" if shape.weights_per_position >= WEIGHTS_PER_POSITION else "convolution",
        }
    rows = [
        [
            name,
            f"{one['weights_per_position']:,.0f}",
            f"{1000 * one['convolution_seconds']['median']:.1f} ms",
            f"{1000 * one['product_seconds']['median']:.1f} ms",
            measuring.Spread(**one["ratio"]),
            one["taken"],
        ]
        for name, one in results.items()
    ]
    columns = ["channels, map", "weights a position", "convolution", "product", "ratio", "taken"]
    measuring.finish(options, __doc__, found, results, measuring.table(columns, rows))


if __name__ == "__main__":
    main()

"""What does one image cost a trained network, and which way of running it is the fastest?

Latency of a single image and throughput of batches, of a run's weights or of any named network (weights as it begins;
they change no time). The ways: eager float32 as it is built (the peer the others are compared with), channels last in
memory, the same with every batch normalisation that directly follows a convolution folded into it, and both in
bfloat16 autocast. All take turns in one process, in which freed memory is kept, as `resattn predict` keeps it. A way
that gives other logits than the first (beyond rounding) ends the benchmark.

    python benchmarks/inference.py runs/tiny-imagenet-resattn_mini-1
    python benchmarks/inference.py resattn_56 --batches 1 16
"""

import measuring

measuring.like_the_command()

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resattn.hardware import Execution, Precision, keep_freed_memory
from resattn.models import create_model
from resattn.models.loading import load

REFERENCE = "fp32"
LARGEST_DIFFERENCE = {"fp32": 1e-3, "bf16": 0.2}


@dataclass(frozen=True)
class Way:
    """A way to run a network."""

    precision: Precision
    channels_last: bool
    folded: bool

    def prepare(self, network: nn.Module) -> "Prepared":
        """A copy of the network, ready to run this way."""
        execution = Execution(torch.device("cpu"), self.precision, self.channels_last, "a benchmark")
        prepared = folded(network) if self.folded else copy.deepcopy(network)
        return Prepared(prepared.eval().to(memory_format=execution.memory_format), execution)


@dataclass(frozen=True)
class Prepared:
    """A network and how it is run."""

    network: nn.Module
    execution: Execution

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, in float32."""
        with torch.inference_mode(), self.execution.autocast():
            logits: Tensor = self.network(images.contiguous(memory_format=self.execution.memory_format))
        return logits.float()


WAYS = {
    REFERENCE: Way("fp32", channels_last=False, folded=False),
    "fp32, channels last": Way("fp32", channels_last=True, folded=False),
    "fp32, channels last, folded": Way("fp32", channels_last=True, folded=True),
    "bf16, channels last": Way("bf16", channels_last=True, folded=False),
    "bf16, channels last, folded": Way("bf16", channels_last=True, folded=True),
}


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose convolutions do what the batch normalisations behind them did.

    In every module of this package, a normalisation that is registered right after a convolution of as many channels
    reads that convolution's output, and nothing else does.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for (before, layer), (after, norm) in pairwise(list(module.named_children())):
            if (
                isinstance(layer, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and layer.out_channels == norm.num_features
            ):
                setattr(module, before, fuse_conv_bn_eval(layer, norm))
                setattr(module, after, nn.Identity())
    return network


def settle_statistics(network: nn.Module, size: int) -> None:
    """Give a fresh network the running statistics of noise, so that its normalisations have something to do."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(8, 3, size, size))
    network.eval()


def open_network(source: str) -> tuple[nn.Module, int]:
    """The network of a run, file or name, and the side of its images in pixels."""
    if Path(source).exists():
        network = load(source)
        return network, int(network.pretrained_cfg["input_size"][-1])  # type: ignore[index]
    network = create_model(source)
    size = int(network.pretrained_cfg["input_size"][-1])  # type: ignore[index]
    settle_statistics(network, size)
    return network, size


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
    """The median of some repeats, after one that is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def require_same(prepared: dict[str, Prepared], images: Tensor) -> None:
    """End the benchmark where a way gives other logits than the first, measured against their spread."""
    reference = prepared[REFERENCE](images)
    for name, run in prepared.items():
        difference = ((run(images) - reference).abs().max() / reference.std()).item()
        if not difference < LARGEST_DIFFERENCE[run.execution.precision]:
            raise SystemExit(
                f"{name} gives other logits: off by {difference:.2g} of their standard deviation"
            )


def measure(
    prepared: dict[str, Prepared], size: int, batch: int, *, rounds: int, repeats: int
) -> dict[str, dict[str, Any]]:
    """Every way in turn at one batch size."""
    images = torch.rand(batch, 3, size, size)
    contestants = {
        name: partial(milliseconds, partial(run, images), repeats) for name, run in prepared.items()
    }
    turns = measuring.alternate(contestants, rounds)
    return {
        name: {
            "milliseconds": measuring.Spread.of(values).to_json(),
            "images_per_second": 1000 * batch / statistics.median(values),
            "times_as_fast_as_fp32": measuring.ratios(turns[REFERENCE], values).to_json(),
        }
        for name, values in turns.items()
    }


def shown(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A table for each batch size."""
    columns = ["way", "ms a batch", "images/s", "times as fast as fp32"]
    tables = []
    for batch, ways in results.items():
        rows = [
            [
                name,
                f"{values['milliseconds']['median']:.1f}",
                f"{values['images_per_second']:.1f}",
                measuring.Spread(**values["times_as_fast_as_fp32"]),
            ]
            for name, values in ways.items()
        ]
        tables.append(f"batch {batch}\n{measuring.table(columns, rows)}")
    return "\n\n".join(tables)


def main(argv: list[str] | None = None) -> None:
    """Print a table for each batch size."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("source", nargs="?", default="resattn_mini", help="a run, a weights file or a name")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 256])
    options = measuring.parse(parser, argv, "inference")
    found = measuring.machine()
    keep_freed_memory()
    torch.manual_seed(0)
    network, size = open_network(options.source)
    prepared = {name: way.prepare(network) for name, way in WAYS.items()}
    require_same(prepared, torch.rand(4, 3, size, size))
    rounds, repeats = (3, 2) if options.short else (7, 10)
    results = {
        str(batch): measure(prepared, size, batch, rounds=rounds, repeats=repeats)
        for batch in options.batches
    }
    measuring.finish(options, __doc__, found, results, f"{options.source}, {size} px\n\n{shown(results)}")


if __name__ == "__main__":
    main()

"""What does one image cost a trained network, and which way of running it is the fastest?

Latency of a single image and throughput of batches, from uint8 images to logits, of a run's weights or of any named
network (as it begins where no weights ship for it; they change no time). The ways: eager float32 as it is built (the
peer the others are compared with), channels last in memory, the same with every batch normalisation that directly
follows a convolution folded into it, both in bfloat16 autocast, and what `resattn export` makes, in float32 and in
8-bit integers, run by ONNX Runtime and by OpenVINO. Each has a process of its own, with as many threads as there are
cores; they take turns. Images are of the validation split, and ranges for int8 from the train split, of the data the
network was trained on, or noise where those are not prepared. A way that gives other logits than the first ends the
benchmark.

    python benchmarks/inference.py runs/tiny-imagenet-resattn_mini-1
    python benchmarks/inference.py resattn_56 --batches 1 16
"""

import measuring

measuring.like_the_command()

import copy
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resattn.data.packed import PackedSplit, open_split
from resattn.errors import ResattnError
from resattn.evaluation.inference import network_input
from resattn.hardware import Execution, Precision, keep_freed_memory, usable_cores
from resattn.models import create_model
from resattn.models.loading import load
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.pretrained import pretrained_names
from resattn.serving.check_images import NOISE_IMAGES, noise
from resattn.serving.exported_model import ExportedModel, Runtime
from resattn.serving.onnx_graph import describe, onnx_graph
from resattn.serving.quantization import quantize

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
# uint8 images, N x size x size x 3, to logits in float32.
Classify = Callable[[Pixels], Logits]

REFERENCE = "fp32"
# Root mean square of the difference, of the logits' standard deviation.
LARGEST_DIFFERENCE = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.3}
COMPARED = 16
# Repeats of one measurement: so many at least, and no more once so many seconds are over.
FEWEST, ENOUGH_SECONDS = 5, 3.0
IMAGES = "images.npy"


@dataclass(frozen=True)
class Eager:
    """A network in torch, run one way."""

    precision: Precision
    channels_last: bool
    folded: bool

    def prepare(self, source: str, folder: Path) -> Classify:
        """The network of a run, file or name, ready to run."""
        del folder
        keep_freed_memory()
        network = open_network(source)
        execution = Execution(torch.device("cpu"), self.precision, self.channels_last, "a benchmark")
        prepared = (folded(network) if self.folded else network).eval()
        # Once, not at every call: a contestant is timed for computing, not for being made ready.
        prepared.to(memory_format=execution.memory_format)

        def classify(images: Pixels) -> Logits:
            with torch.inference_mode(), execution.autocast():
                logits: Logits = prepared(network_input(images, execution)).float().numpy()
            return logits

        return classify


@dataclass(frozen=True)
class Exported:
    """A file of `resattn export` and what runs it."""

    precision: str
    runtime: Runtime

    def prepare(self, source: str, folder: Path) -> Classify:
        """The file that `write_files` wrote for the network."""
        del source
        return ExportedModel.open(self.file(folder), runtime=self.runtime, threads=usable_cores())

    def file(self, folder: Path) -> Path:
        """The file's place."""
        return folder / f"{self.precision}.onnx"


WAYS: Mapping[str, Eager | Exported] = {
    REFERENCE: Eager("fp32", channels_last=False, folded=False),
    "fp32, channels last": Eager("fp32", channels_last=True, folded=False),
    "fp32, channels last, folded": Eager("fp32", channels_last=True, folded=True),
    "bf16, channels last": Eager("bf16", channels_last=True, folded=False),
    "bf16, channels last, folded": Eager("bf16", channels_last=True, folded=True),
    "ONNX Runtime, fp32": Exported("fp32", "onnxruntime"),
    "ONNX Runtime, int8": Exported("int8", "onnxruntime"),
    "OpenVINO, fp32": Exported("fp32", "openvino"),
    "OpenVINO, int8": Exported("int8", "openvino"),
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


def open_network(source: str) -> ResidualAttentionNetwork:
    """The network of a run, file or name: with the weights that ship, else those it begins with, always the same."""
    if Path(source).exists() or source in pretrained_names():
        return load(source)
    torch.manual_seed(0)
    network = create_model(source)
    settle_statistics(network, input_side(network))
    return network


def input_side(network: ResidualAttentionNetwork) -> int:
    """The side of the images a network was made for, in pixels."""
    return int(network.pretrained_cfg["input_size"][-1])  # type: ignore[index]


def split_or_noise(network: ResidualAttentionNetwork, name: str) -> PackedSplit:
    """A split of what the network was trained on, or noise where that is not prepared."""
    try:
        return open_split(str(network.pretrained_cfg.get("data")), name)
    except ResattnError:
        side = input_side(network)
        labels, files = np.full(NOISE_IMAGES, -1), ("",) * NOISE_IMAGES
        return PackedSplit("noise", name, noise((3, side, side)).pixels, labels, None, files, (), (), "")


def write_files(network: ResidualAttentionNetwork, folder: Path, images: int) -> str:
    """Write the exported files and `images` images, which all ways are given; returns what images they are."""
    graph = onnx_graph(network, masks=False)
    quantized = quantize(graph, split_or_noise(network, "train"), size=(input_side(network),) * 2)
    for precision, one in (("fp32", graph), ("int8", quantized)):
        describe(one, network, format=precision)
        Exported(precision, "onnxruntime").file(folder).write_bytes(one.SerializeToString())
    split = split_or_noise(network, "val")
    rows = np.arange(images) * len(split.images) // images
    np.save(folder / IMAGES, split.images[rows])
    return f"{split.data} {split.split}"


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
    """The median of some repeats, after one that is not counted; of fewer where they take seconds."""
    run()
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < FEWEST or sum(seconds) < ENOUGH_SECONDS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def measure_cell(cell: dict[str, Any]) -> dict[str, Any]:
    """One way at every batch size: `milliseconds` a batch by the batch's size, and the first `logits`."""
    torch.set_num_threads(usable_cores())
    folder = Path(cell["folder"])
    classify = WAYS[cell["way"]].prepare(cell["source"], folder)
    images: Pixels = np.load(folder / IMAGES)
    return {
        "logits": classify(images[:COMPARED]).tolist(),
        "milliseconds": {
            str(batch): milliseconds(partial(classify, images[:batch]), cell["repeats"])
            for batch in cell["batches"]
        },
    }


def require_same(logits: Mapping[str, Any]) -> None:
    """End the benchmark where a way gives other logits than the first, measured against their spread."""
    reference = np.asarray(logits[REFERENCE])
    for name, found in logits.items():
        difference = float(np.sqrt(np.square(np.asarray(found) - reference).mean()) / reference.std())
        if not difference < LARGEST_DIFFERENCE[WAYS[name].precision]:
            raise SystemExit(
                f"{name} gives other logits: off by {difference:.2g} of their standard deviation"
            )


def summary(turns: Mapping[str, list[dict[str, Any]]], batch: int) -> dict[str, dict[str, Any]]:
    """Every way at one batch size."""
    times = {name: [turn["milliseconds"][str(batch)] for turn in all_of] for name, all_of in turns.items()}
    return {
        name: {
            "milliseconds": measuring.Spread.of(values).to_json(),
            "images_per_second": 1000 * batch / statistics.median(values),
            "times_as_fast_as_fp32": measuring.ratios(times[REFERENCE], values).to_json(),
        }
        for name, values in times.items()
    }


def shown(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A table for each batch size."""
    columns = ["way", "ms a batch", "images/s", "times as fast as fp32"]
    tables = []
    for batch, ways in results.items():
        rows = [
            [
                name,
                "{median:.2f} ({low:.2f}..{high:.2f})".format(**values["milliseconds"]),
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
    parser.add_argument("source", nargs="?", default="resattn_small", help="a run, a weights file or a name")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 256])
    options = measuring.parse(parser, argv, "inference")
    found = measuring.machine()
    rounds, repeats = (2, FEWEST) if options.short else (5, 20)
    ways = [name for name in WAYS if "OpenVINO" not in name or importlib.util.find_spec("openvino")]
    network = open_network(options.source)
    with tempfile.TemporaryDirectory(prefix="resattn-inference-") as folder:
        images = write_files(network, Path(folder), max(*options.batches, COMPARED))
        cell = {"source": options.source, "folder": folder, "batches": options.batches, "repeats": repeats}
        contestants = {
            name: partial(measuring.in_fresh_process, __file__, {**cell, "way": name}) for name in ways
        }
        turns = measuring.alternate(contestants, rounds)
    require_same({name: all_of[0]["logits"] for name, all_of in turns.items()})
    results = {str(batch): summary(turns, batch) for batch in options.batches}
    title = f"{options.source}, {input_side(network)} px, images of {images}"
    measuring.finish(options, __doc__, found, results, f"{title}\n\n{shown(results)}")


if __name__ == "__main__":
    measuring.start(main, measure_cell)

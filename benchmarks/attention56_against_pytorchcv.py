"""How many times faster than pytorchcv's is resattn's Attention-56, the same network, at 224 pixels?

Aim: 3 times as fast in training and 2.5 times in inference, on CPUs that compute bfloat16 fast. Only inference of
batches has reached it, and of one image as an exported file in 8-bit integers: docs/experiment-log.md.

Peer: `resattnet56` of pytorchcv, the one packaged implementation of the same architecture, as its users run it
(float32, torch's default memory layout); the row "by hand" adds bfloat16 autocast and channels last. Ours runs as the
package runs it: number format, layout and freed memory are chosen by `resattn.hardware`, threads by the command's
settings; in inference also with the batch normalisations folded into convolutions (`inference.py`), and as the files
that `resattn export` writes, in float32 and in 8-bit integers (ranges of noise), in ONNX Runtime. Both train with
torch's SGD (Nesterov momentum, weight decay) on one batch of noise; a step is forward, backward and update. Every
measurement is a fresh process; contestants take turns.

    pip install -e '.[bench]'
    python benchmarks/attention56_against_pytorchcv.py
"""

import measuring

measuring.like_the_command()

import importlib.metadata
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE, CLASSES = 224, 1000
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
OURS, FOLDED = "resattn", "resattn, folded"
EXPORTED = {"resattn, exported": "fp32", "resattn, exported in int8": "int8"}
USUAL, BY_HAND = "pytorchcv", "pytorchcv, bf16 and channels last by hand"
MODES = {"training": (OURS, USUAL, BY_HAND), "inference": (OURS, FOLDED, *EXPORTED, USUAL, BY_HAND)}


def our_contestant(name: str) -> tuple[nn.Module, Any, Any, Any]:
    """Network, optimizer, precision context and memory format, as the package chooses them."""
    from inference import folded
    from resattn.hardware import choose_execution, keep_freed_memory
    from resattn.models import create_model
    from resattn.training.optimization import make_optimizer
    from resattn.training.recipe import Optimization

    keep_freed_memory()
    execution = choose_execution()
    network: nn.Module = create_model("resattn_56", num_classes=CLASSES)
    network = folded(network) if name == FOLDED else network
    network.to(memory_format=execution.memory_format)
    optimization = Optimization(
        optimizer="sgd", lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    return (
        network,
        make_optimizer(network, optimization, products=execution.precision),
        execution.autocast(),
        execution.memory_format,
    )


def their_contestant(name: str) -> tuple[nn.Module, Any, Any, Any]:
    """The same of pytorchcv's network."""
    by_hand = name == BY_HAND
    memory_format = torch.channels_last if by_hand else torch.contiguous_format
    # Imported by name, because it is there for this benchmark only.
    provider = importlib.import_module("pytorchcv.model_provider")
    network: nn.Module = provider.get_model("resattnet56", num_classes=CLASSES)
    network.to(memory_format=memory_format)
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    return network, optimizer, torch.autocast("cpu", torch.bfloat16, enabled=by_hand), memory_format


def measure_cell(cell: dict[str, Any]) -> dict[str, float]:
    """Images a second and peak memory of one contestant in this process."""
    torch.manual_seed(0)
    if cell["name"] in EXPORTED:
        return measure_file(cell)
    make = our_contestant if cell["name"] in (OURS, FOLDED) else their_contestant
    network, optimizer, autocast, memory_format = make(cell["name"])
    images = torch.rand(cell["batch"], 3, SIZE, SIZE).contiguous(memory_format=memory_format)
    labels = torch.randint(CLASSES, (cell["batch"],))
    if cell["mode"] == "training":
        network.train()
        step = partial(train_step, network, optimizer, autocast, images, labels)
    else:
        network.eval()
        step = partial(infer, network, autocast, images)
    seconds = timed(step, cell["warmup"], cell["steps"])
    return {"images_per_second": cell["batch"] / seconds, "peak_memory": measuring.peak_memory()}


def measure_file(cell: dict[str, Any]) -> dict[str, float]:
    """The same of an exported file."""
    from inference import Exported
    from resattn.serving.exported_model import ExportedModel

    model = ExportedModel.open(Exported(EXPORTED[cell["name"]], "onnxruntime").file(Path(cell["folder"])))
    images = np.random.default_rng(0).integers(0, 256, (cell["batch"], SIZE, SIZE, 3), dtype=np.uint8)
    seconds = timed(lambda: model(images), cell["warmup"], cell["steps"])
    return {"images_per_second": cell["batch"] / seconds, "peak_memory": measuring.peak_memory()}


def write_exported(folder: Path) -> None:
    """Write what `resattn export` makes of our network, in float32 and in 8-bit integers."""
    from inference import open_network, write_files

    write_files(open_network("resattn_56"), folder, images=1)


def train_step(network: nn.Module, optimizer: Any, autocast: Any, images: Tensor, labels: Tensor) -> None:
    """Forward, backward, update."""
    with autocast:
        logits = network(images)
    loss = functional.cross_entropy(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def infer(network: nn.Module, autocast: Any, images: Tensor) -> None:
    """One forward pass without gradients."""
    with torch.inference_mode(), autocast:
        network(images)


def timed(step: Callable[[], object], warmup: int, steps: int) -> float:
    """Median seconds of a step."""
    seconds = []
    for _ in range(warmup + steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[warmup:])


def measure(
    mode: str, batch: int, folder: Path, *, rounds: int, warmup: int, steps: int
) -> dict[str, dict[str, Any]]:
    """All contestants of a mode at one batch size, in turn, each time in a fresh process."""
    cells = {
        name: {
            "name": name,
            "mode": mode,
            "batch": batch,
            "folder": str(folder),
            "warmup": warmup,
            "steps": steps,
        }
        for name in MODES[mode]
    }
    contestants = {
        name: partial(
            measuring.in_fresh_process,
            __file__,
            cell,
            settings=measuring.USER_SETTINGS if name in (USUAL, BY_HAND) else measuring.COMMAND_SETTINGS,
        )
        for name, cell in cells.items()
    }
    turns = measuring.alternate(contestants, rounds)
    speeds = {name: [one["images_per_second"] for one in values] for name, values in turns.items()}
    return {
        name: {
            "images_per_second": measuring.Spread.of(values).to_json(),
            "times_as_fast_as_pytorchcv": measuring.ratios(values, speeds[USUAL]).to_json(),
            "times_as_fast_as_by_hand": measuring.ratios(values, speeds[BY_HAND]).to_json(),
            "peak_memory": max(one["peak_memory"] for one in turns[name]),
        }
        for name, values in speeds.items()
    }


def shown(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A table for each mode and batch size."""
    columns = ["network", "images/s", "times pytorchcv", "times by hand", "peak memory"]
    tables = []
    for what, contestants in results.items():
        rows = [
            [
                name,
                measuring.Spread(**values["images_per_second"]),
                measuring.Spread(**values["times_as_fast_as_pytorchcv"]),
                measuring.Spread(**values["times_as_fast_as_by_hand"]),
                f"{values['peak_memory'] / 2**20:,.0f} MiB",
            ]
            for name, values in contestants.items()
        ]
        tables.append(f"{what}\n{measuring.table(columns, rows)}")
    return "\n\n".join(tables)


def main(argv: list[str] | None = None) -> None:
    """Print a table for each mode and batch size."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--training", type=int, nargs="*", help="batch sizes of training (4, or 8 and 16)")
    parser.add_argument("--inference", type=int, nargs="*", help="batch sizes of inference (1, or 1 and 16)")
    options = measuring.parse(parser, argv, "attention56_against_pytorchcv")
    if importlib.util.find_spec("pytorchcv") is None:
        raise SystemExit("this benchmark needs its peer: pip install pytorchcv")
    if options.training is None:
        options.training = [4] if options.short else [8, 16]
    if options.inference is None:
        options.inference = [1] if options.short else [1, 16]
    found = measuring.machine()
    found["versions"]["pytorchcv"] = importlib.metadata.version("pytorchcv")
    rounds, warmup = (1, 1) if options.short else (5, 2)
    results = {}
    with tempfile.TemporaryDirectory(prefix="resattn-56-") as folder:
        if options.inference:
            write_exported(Path(folder))
        for mode, batches in (("training", options.training), ("inference", options.inference)):
            steps = (2 if mode == "training" else 5) if options.short else 5
            for batch in batches:
                results[f"{mode}, batch {batch}"] = measure(
                    mode, batch, Path(folder), rounds=rounds, warmup=warmup, steps=steps
                )
                measuring.write_json(options.json, measuring.record(options, __doc__, found, results))
    measuring.finish(options, __doc__, found, results, shown(results))


if __name__ == "__main__":
    measuring.start(main, measure_cell)

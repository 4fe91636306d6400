"""How do time and memory grow with the data, the image, the network, the batch and the processes?

Claim: seconds an epoch grow in proportion to images and pixels, and no faster than multiply-accumulates with the
width; memory does not grow with the data set.

One of four grows by 1, 2 and 4 while the others stay: images in the data set, pixels of an image, width of every stage
of resattn_mini's frame, images in a batch. A fifth group shares each batch between 1 and 2 processes: data-parallel
training in which every process computes the gradients of its part of the batch with its share of the threads, one
all-reduce (torch.distributed, gloo) averages them and every process updates; batch statistics are those of the whole
batch, as in `resattn train --devices`.
The peer of every cell is the first of its group. Every cell is a fresh process that does a few whole training steps on
packed images of noise; an epoch is extrapolated from them. Memory is the largest resident set of a process, also shown
without what it was before training ("imports"). Images count as far as the steps read them. An epoch reads all, which
"images" shows: they are mapped from a file, shared by all processes, and the system may drop them.

    python benchmarks/scaling.py
"""

import measuring

measuring.like_the_command()

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed

from resattn.data.augmentation import Augmentation
from resattn.data.batches import TrainingBatches
from resattn.data.packed import PackedSplit
from resattn.hardware import choose_execution, keep_freed_memory
from resattn.models.cost import multiply_accumulates
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.variants_compact import MINI, compact_network
from resattn.training.optimization import make_optimizer
from resattn.training.processes import average_gradients
from resattn.training.recipe import Optimization
from resattn.training.synchronized_norm import synchronize_norms
from resattn.training.task import training_loss

CLASSES = 200
STEM_WIDTH = 32
LABEL_SMOOTHING = 0.1
NOISE_IMAGES = 500
WARMUP = 1
BASE = {
    "short": {"images": 2_000, "side": 32, "width": 1, "batch": 32, "processes": 1},
    "long": {"images": 25_000, "side": 64, "width": 1, "batch": 128, "processes": 1},
}
GROUPS = ("images", "pixels", "width", "batch", "processes")


def factors(what: str, *, short: bool) -> tuple[int, ...]:
    """By how much a group's figure is multiplied."""
    if what == "processes":
        return (1, 2)
    return (1, 4) if short else (1, 2, 4)


def grown(base: Mapping[str, int], what: str, factor: int) -> dict[str, int]:
    """The base cell with one of its figures multiplied; pixels are the square of the side."""
    if what == "pixels":
        return {**base, "side": round(base["side"] * factor**0.5)}
    return {**base, what: base[what] * factor}


def write_noise(folder: Path, images: int, side: int) -> Path:
    """A file of packed images of noise, made where it is not there."""
    path = folder / f"{images}-{side}.npy"
    if not path.exists():
        noise = np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, side, side, 3), dtype=np.uint8)
        pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(images, side, side, 3))
        for start in range(0, images, NOISE_IMAGES):
            pixels[start : start + NOISE_IMAGES] = noise[: images - start]
        pixels.flush()
    return path


def noise_split(path: Path) -> PackedSplit:
    """A packed split of the images in the file, memory-mapped as prepared data is."""
    images = np.lib.format.open_memmap(path, mode="r")
    names = tuple(f"{label:03}" for label in range(CLASSES))
    return PackedSplit(
        data="noise",
        split="train",
        images=images,
        labels=np.arange(len(images)) % CLASSES,
        boxes=None,
        file_names=(),
        class_ids=names,
        class_names=names,
        source_sha256="",
    )


def make_network(width: int) -> ResidualAttentionNetwork:
    """The frame of resattn_mini, every stage `width` times as wide."""
    widths = tuple(width * one for one in MINI)
    return compact_network(
        widths=widths, attention="compact", num_classes=CLASSES, stem_width=width * STEM_WIDTH
    )


def train_steps(cell: Mapping[str, Any]) -> dict[str, float]:
    """Do the cell's steps as process `rank` of `processes`: images a second of all, memory of this one."""
    imports = measuring.peak_memory()
    keep_freed_memory()
    torch.manual_seed(0)
    execution = choose_execution(cell["precision"])
    network = make_network(cell["width"])
    if cell["processes"] > 1:
        synchronize_norms(network, execution.device)
    network.to(memory_format=execution.memory_format)
    optimizer = make_optimizer(network, Optimization(), products=execution.precision)
    batches = TrainingBatches(
        noise_split(Path(cell["file"])),
        batch_size=cell["batch"],
        batches=WARMUP + cell["steps"],
        seed=0,
        augmentation=Augmentation(),
        start_scale=1.0,
        size_ramp=0.0,
        rank=cell["rank"],
        world=cell["processes"],
    )
    started = 0.0
    for number in range(len(batches)):
        if number == WARMUP:
            started = time.perf_counter()
        loss, _ = training_loss(network, batches.batch(number), execution, LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(network)
        optimizer.step()
    seconds = time.perf_counter() - started
    return {
        "images_per_second": cell["batch"] * cell["steps"] / seconds,
        "peak_memory": measuring.peak_memory(),
        "without_imports": measuring.peak_memory() - imports,
    }


def measure_cell(cell: dict[str, Any]) -> dict[str, float]:
    """The cell in this process and, where it has several, in others that this one starts as ranks 1 and up."""
    world, rank = cell["processes"], cell["rank"]
    if world == 1:
        return train_steps(cell)
    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    others = [
        subprocess.Popen(
            [sys.executable, __file__, "--cell", json.dumps({**cell, "rank": other})],
            stdout=subprocess.DEVNULL,
        )
        for other in range(1, world)
        if rank == 0
    ]
    meeting = Path(cell["meeting"]).absolute().as_uri()
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    try:
        return train_steps(cell)
    finally:
        torch.distributed.destroy_process_group()
        for other in others:
            other.wait()


def measure_group(
    cells: Mapping[str, Mapping[str, int]], folder: Path, *, rounds: int, steps: int, precision: str
) -> dict[str, Any]:
    """The cells of one group in turn; the first is the peer."""

    def measure(name: str) -> Any:
        file = write_noise(folder, cells[name]["images"], cells[name]["side"])
        meeting = folder / "meeting"
        meeting.unlink(missing_ok=True)
        more = {"file": str(file), "meeting": str(meeting), "steps": steps, "precision": precision, "rank": 0}
        return measuring.in_fresh_process(__file__, {**cells[name], **more})

    turns = measuring.alternate({name: partial(measure, name) for name in cells}, rounds)
    epochs = {
        name: [cells[name]["images"] / one["images_per_second"] for one in values]
        for name, values in turns.items()
    }
    first = next(iter(cells))
    return {
        name: {
            "cell": cell,
            "seconds_an_epoch": measuring.Spread.of(epochs[name]).to_json(),
            "times_the_first": measuring.ratios(epochs[name], epochs[first]).to_json(),
            "arithmetic_times_the_first": arithmetic(cell) / arithmetic(cells[first]),
            **{
                kind: measuring.Spread.of([one[kind] for one in turns[name]]).to_json()
                for kind in ("peak_memory", "without_imports")
            },
            "image_bytes": 3 * cell["images"] * cell["side"] ** 2,
        }
        for name, cell in cells.items()
    }


def arithmetic(cell: Mapping[str, int]) -> int:
    """Multiply-accumulates of one forward pass over the data set."""
    return cell["images"] * multiply_accumulates(make_network(cell["width"]), cell["side"])


def shown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """One table; a line for each cell."""
    columns = ["cell", "seconds an epoch", "times first", "MACs", "peak memory", "no imports", "images"]
    rows = [
        [
            name,
            measuring.Spread(**one["seconds_an_epoch"]),
            measuring.Spread(**one["times_the_first"]),
            f"{one['arithmetic_times_the_first']:.2f}",
            *(
                f"{size / 2**20:,.0f} MiB"
                for size in (
                    one["peak_memory"]["median"],
                    one["without_imports"]["median"],
                    one["image_bytes"],
                )
            ),
        ]
        for group in results.values()
        for name, one in group.items()
    ]
    return measuring.table(columns, rows)


def main(argv: list[str] | None = None) -> None:
    """Print one table with all cells."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    options = measuring.parse(parser, argv, "scaling")
    found = measuring.machine()
    precision = choose_execution().precision
    base = BASE["short" if options.short else "long"]
    rounds, steps = (1, 2) if options.short else (3, 8)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for what in options.groups:
            cells = {f"{what} x{by}": grown(base, what, by) for by in factors(what, short=options.short)}
            results[what] = measure_group(
                cells, Path(folder), rounds=rounds, steps=steps, precision=precision
            )
    measuring.finish(options, __doc__, found, results, shown(results))


if __name__ == "__main__":
    measuring.start(main, measure_cell)

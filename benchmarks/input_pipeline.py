"""How many times faster than the usual input pipeline are resattn's training batches?

Claim: packed uint8 images, gathered, mirrored and shifted a batch at a time in the training process, are ready some
20 times as fast as the usual way makes them in the same process. No network runs.

Peer: torchvision's ImageFolder with RandomCrop (reflected padding of 4), RandomHorizontalFlip, ToTensor and Normalize,
and torch's DataLoader that shuffles, with 0 and with 2 workers; the same images as JPEG files in class folders. Files
and packed images are in the page cache after the first turn. Both end in normalised float32 batches at the stored
size: resattn's networks normalise inside, and here that counts as the pipeline's. Ours runs with what `resattn train`
sets (threads, freed memory), which the peer inherits. A turn times some batches after a few that warm up.

    python benchmarks/input_pipeline.py --data tiny-imagenet --archive tiny-imagenet-200.zip
"""

from functools import partial
from pathlib import Path
from typing import Any

import measuring

measuring.like_the_command()

import argparse
import time
from collections.abc import Callable, Iterator

from torch import Tensor

from resattn.data.augmentation import Augmentation
from resattn.data.batches import TrainingBatches
from resattn.data.packed import PackedSplit, open_split
from resattn.hardware import keep_freed_memory
from resattn.models import create_model
from usual_pipeline import image_folder, usual_loader

OURS = "resattn"
WORKERS = (0, 2)
WARMUP = 3


def our_batches(split: PackedSplit, batch_size: int) -> Iterator[Tensor]:
    """Training batches at the stored size, with the normalisation that our networks do themselves."""
    batches = TrainingBatches(
        split,
        batch_size=batch_size,
        batches=10**6,
        seed=0,
        augmentation=Augmentation(),
        start_scale=1.0,
        size_ramp=0.0,
    )
    normalize = create_model("resattn_mini").normalize
    for batch in batches:
        yield normalize(batch.images)


def usual_batches(folder: Path, side: int, batch_size: int, workers: int) -> Iterator[Tensor]:
    """The usual pipeline's batches, epoch after epoch."""
    loader = usual_loader(folder, split="train", side=side, batch_size=batch_size, workers=workers)
    while True:
        for images, _ in loader:
            yield images


def images_per_second(make: Callable[[], Iterator[Tensor]], count: int) -> float:
    """Images a second over `count` batches, after a few that are not counted."""
    batches = make()
    for _ in range(WARMUP):
        next(batches)
    started = time.perf_counter()
    images = sum(len(next(batches)) for _ in range(count))
    return images / (time.perf_counter() - started)


def contestants(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[], float]]:
    """What takes turns: images a second of each pipeline."""
    keep_freed_memory()
    split = open_split(options.data, "train")
    side, size = int(split.images.shape[1]), options.batch_size
    entries: dict[str, Callable[[], float]] = {
        OURS: partial(images_per_second, partial(our_batches, split, size), 10 * options.batches)
    }
    for workers in WORKERS:
        make = partial(usual_batches, folder, side, size, workers)
        entries[f"ImageFolder + DataLoader, {workers} workers"] = partial(
            images_per_second, make, options.batches
        )
    return entries


def main(argv: list[str] | None = None) -> None:
    """Print images and batches a second of each pipeline, and how many times faster ours is."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--data", default="tiny-imagenet")
    parser.add_argument("--archive", type=Path, help="Tiny ImageNet's archive, unpacked the first time")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument(
        "--batches", type=int, help="the peers' batches a turn (5, or 40); ours ten times as many"
    )
    options = measuring.parse(parser, argv, "input_pipeline")
    options.batches = options.batches or (5 if options.short else 40)
    found = measuring.machine()
    folder = image_folder(options.data, archive=options.archive)
    speeds = measuring.alternate(contestants(options, folder), 3 if options.short else 5)
    rows: list[list[Any]] = []
    results: dict[str, Any] = {}
    for name, values in speeds.items():
        speed, times = measuring.Spread.of(values), measuring.ratios(speeds[OURS], values)
        rows.append([name, f"{speed.median:,.0f}", f"{speed.median / options.batch_size:.2f}", times])
        results[name] = {
            "images_per_second": speed.to_json(),
            "resattn_is_times_as_fast": times.to_json(),
            "turns": values,
        }
    columns = ["pipeline", "images/s", "batches/s", "resattn is ... times as fast"]
    measuring.finish(options, __doc__, found, results, measuring.table(columns, rows))


if __name__ == "__main__":
    main()

"""Where does the time of a training step go?

Times the parts of real steps (making the batch, forward, backward, optimizer, weight average) on prepared data at the
smallest and the full image size of the recipe, median of a few steps after warm-up. Run it on idle cores:

    python benchmarks/training_step.py --data tiny-imagenet --model resattn_mini
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the resattn command does

import argparse
import json
import statistics
import time

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from resattn.data.packed import open_split
from resattn.hardware import choose_execution
from resattn.models import create_model
from resattn.training.optimization import make_optimizer
from resattn.training.recipe import Recipe
from resattn.training.run import training_batches
from resattn.training.task import training_loss

PARTS = ("batch", "forward", "backward", "optimizer", "average")
WARMUP = 3
BATCHES = 1000


def time_steps(recipe: Recipe, *, first: int, steps: int) -> dict[str, float]:
    """Median seconds of each part over `steps` steps, from batch number `first` of a run of 1000 batches."""
    split = open_split(recipe.data, "train")
    execution = choose_execution(recipe.precision)
    batches = training_batches(recipe, split, count=BATCHES)
    network = create_model(recipe.model, num_classes=len(split.class_ids))
    network.to(device=execution.device, memory_format=execution.memory_format)
    optimizer = make_optimizer(network, recipe.optimization)
    average = AveragedModel(network, avg_fn=get_ema_avg_fn(0.99), use_buffers=True)
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    for step in range(WARMUP + steps):
        marks = [time.perf_counter()]
        batch = batches.batch(first + step)
        marks.append(time.perf_counter())
        loss, _ = training_loss(network, batch, execution, recipe.label_smoothing)
        marks.append(time.perf_counter())
        optimizer.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        optimizer.step()
        marks.append(time.perf_counter())
        average.update_parameters(network)
        marks.append(time.perf_counter())
        if step >= WARMUP:
            for part, begin, end in zip(PARTS, marks, marks[1:], strict=False):
                seconds[part].append(end - begin)
    return {part: statistics.median(values) for part, values in seconds.items()}


def main() -> None:
    """Print a table for the first and the last image size of the run, and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="tiny-imagenet")
    parser.add_argument("--model", default="resattn_mini")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--sizes", choices=("first", "both"), default="both")
    options = parser.parse_args()
    recipe = Recipe(data=options.data, model=options.model)
    results = {}
    places = {"first": 0, "last": BATCHES - WARMUP - options.steps}
    for name in ("first",) if options.sizes == "first" else ("first", "last"):
        first = places[name]
        parts = time_steps(recipe, first=first, steps=options.steps)
        whole = sum(parts.values())
        results[name] = parts
        print(f"{name} image size: {1000 * whole:.0f} ms a step, {recipe.batch_size / whole:.0f} images/s")
        for part, seconds in parts.items():
            print(f"  {part:<10} {1000 * seconds:7.1f} ms  {seconds / whole:6.1%}")
    print(
        json.dumps({"threads": torch.get_num_threads(), "batch_size": recipe.batch_size, "seconds": results})
    )


if __name__ == "__main__":
    main()

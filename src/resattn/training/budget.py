"""A time budget turned into a number of steps, once, by measuring this machine."""

import copy
import math
import statistics
import time
from collections import Counter
from dataclasses import dataclass

from torch import nn

from resattn.data.batches import TrainingBatches
from resattn.hardware import Execution
from resattn.progress import track
from resattn.training.optimization import make_optimizer
from resattn.training.recipe import Recipe, parse_duration
from resattn.training.task import training_loss

WARMUP_STEPS = 2
TIMED_STEPS = 5
PROBES = 1000


@dataclass(frozen=True)
class Budget:
    """`steps` that fit into the time asked for, and what was measured: seconds a step for each image size."""

    steps: int
    step_seconds: dict[int, float]

    def __str__(self) -> str:
        speeds = ", ".join(
            f"{1000 * seconds:.0f} ms at {size} px" for size, seconds in self.step_seconds.items()
        )
        return f"{self.steps:,} steps fit ({speeds})"


def steps_for_epochs(recipe: Recipe, images: int) -> int:
    """Optimizer steps that pass over `images` training images `recipe.epochs` times, rounded up."""
    assert recipe.epochs is not None
    return math.ceil(recipe.epochs * images / (recipe.batch_size * recipe.optimization.accumulate))


def measure_budget(
    network: nn.Module, recipe: Recipe, batches: TrainingBatches, execution: Execution
) -> Budget:
    """Time a few real steps at each image size of the run and see how many fit into `recipe.time`.

    `batches` must be a run of `PROBES` batches; `network` is copied, not trained. The first steps at each size are not
    counted, validations are not included in the budget.
    """
    assert recipe.time is not None
    sizes = Counter(batches.size(number) for number in range(PROBES))
    firsts = {
        size: next(number for number in range(PROBES) if batches.size(number) == size) for size in sizes
    }
    probe = copy.deepcopy(network).train()
    optimizer = make_optimizer(probe, recipe.optimization)
    timings: dict[int, list[float]] = {size: [] for size in sizes}
    schedule = [(size, repeat) for size in sizes for repeat in range(WARMUP_STEPS + TIMED_STEPS)]
    for size, repeat in track(schedule, total=len(schedule), description="measuring speed", unit="steps"):
        started = time.perf_counter()
        batch = batches.batch(firsts[size])
        moved = batch._replace(
            images=batch.images.to(execution.device),
            labels=batch.labels.to(execution.device),
            other_labels=batch.other_labels.to(execution.device),
        )
        loss, _ = training_loss(probe, moved, execution, recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
        if repeat >= WARMUP_STEPS:
            timings[size].append(time.perf_counter() - started)
    seconds = {size: statistics.median(values) for size, values in timings.items()}
    mean = sum(count * seconds[size] for size, count in sizes.items()) / PROBES
    steps = max(1, int(parse_duration(recipe.time) / (mean * recipe.optimization.accumulate)))
    return Budget(steps, seconds)

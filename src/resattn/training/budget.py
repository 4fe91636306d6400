"""A time budget turned into a number of steps, once, by measuring this machine."""

import copy
import math
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from resattn.data.batches import TrainingBatches
from resattn.hardware import Execution
from resattn.progress import track
from resattn.training.fine_tuning import head_steps
from resattn.training.optimization import make_optimizer
from resattn.training.processes import average_gradients, this_process
from resattn.training.recipe import Recipe, parse_duration
from resattn.training.task import training_loss

WARMUP_STEPS = 2
TIMED_STEPS = 5
PROBES = 1000


class StepKind(NamedTuple):
    """What a step's cost depends on: the side of its images, and whether the classifier learns alone."""

    size: int
    head_only: bool

    def __str__(self) -> str:
        return f"{self.size} px" + (", classifier only" if self.head_only else "")


@dataclass(frozen=True)
class Budget:
    """`steps` that fit into the time asked for, and what was measured: seconds a step of each kind."""

    steps: int
    step_seconds: dict[StepKind, float]

    def __str__(self) -> str:
        speeds = ", ".join(
            f"{1000 * seconds:.0f} ms at {kind}" for kind, seconds in self.step_seconds.items()
        )
        return f"{self.steps:,} steps fit ({speeds})"


def steps_for_epochs(recipe: Recipe, images: int) -> int:
    """Optimizer steps that pass over `images` training images `recipe.epochs` times, rounded up."""
    assert recipe.epochs is not None
    return math.ceil(recipe.epochs * images / (recipe.batch_size * recipe.optimization.accumulate))


def step_kinds(recipe: Recipe, batches: TrainingBatches) -> list[StepKind]:
    """The kind of every batch of a run."""
    accumulate = recipe.optimization.accumulate
    head_only = head_steps(recipe, batches.batches // accumulate) * accumulate
    return [StepKind(batches.size(number), number < head_only) for number in range(batches.batches)]


def measure_budget(
    network: nn.Module, recipe: Recipe, batches: TrainingBatches, execution: Execution
) -> Budget:
    """Time a few real steps of each kind the run has and see how many fit into `recipe.time`.

    `batches` must be a run of `PROBES` batches; `network` is copied, not trained. The first steps of each kind are not
    counted, validations are not included in the budget. Several processes call this together, and exchange gradients.
    """
    assert recipe.time is not None
    kinds = step_kinds(recipe, batches)
    shares = Counter(kinds)
    probe = copy.deepcopy(network).train()
    optimizer = make_optimizer(probe, recipe.optimization, products=execution.precision)
    timings: dict[StepKind, list[float]] = {kind: [] for kind in shares}
    # In rounds, so that what disturbs the machine for seconds spoils one step in five of every kind, which a median
    # bears, and not all five of one kind.
    schedule = [(kind, repeat) for repeat in range(WARMUP_STEPS + TIMED_STEPS) for kind in shares]
    shown = track(schedule, total=len(schedule), description="measuring speed", unit="steps")
    for kind, repeat in shown if this_process().first else schedule:
        started = time.perf_counter()
        batch = batches.batch(kinds.index(kind))
        moved = batch._replace(
            images=batch.images.to(execution.device),
            labels=batch.labels.to(execution.device),
            other_labels=batch.other_labels.to(execution.device),
        )
        loss, _ = training_loss(probe, moved, execution, recipe.label_smoothing, head_only=kind.head_only)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(probe)
        optimizer.step()
        loss.item()
        if repeat >= WARMUP_STEPS:
            timings[kind].append(time.perf_counter() - started)
    seconds = {kind: statistics.median(values) for kind, values in timings.items()}
    mean = sum(count * seconds[kind] for kind, count in shares.items()) / PROBES
    steps = max(1, int(parse_duration(recipe.time) / (mean * recipe.optimization.accumulate)))
    return Budget(steps, seconds)

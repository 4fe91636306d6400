"""A time budget turned into a number of steps, once, by measuring this machine."""

import copy
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from resattn.data.batches import Batch, TrainingBatches
from resattn.hardware import Execution
from resattn.progress import track
from resattn.training.fine_tuning import head_steps
from resattn.training.optimization import make_optimizer
from resattn.training.processes import average_gradients, this_process
from resattn.training.recipe import Recipe, parse_duration
from resattn.training.task import training_loss

WARMUP_STEPS = 2
TIMED_STEPS = 5
FEWEST_TURNS, MOST_TURNS = 3, 15
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


def step_kinds(recipe: Recipe, batches: TrainingBatches) -> Iterator[StepKind]:
    """The kind of every batch of a run, which may have millions."""
    accumulate = recipe.optimization.accumulate
    head_only = head_steps(recipe, batches.batches // accumulate) * accumulate
    return (StepKind(batches.size(number), number < head_only) for number in range(batches.batches))


class Probe:
    """Takes real steps of a run to time them, on a copy of its network.

    `batches` must be a run of `PROBES` batches. Several processes call `step` together, and exchange gradients.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, batches: TrainingBatches, execution: Execution
    ) -> None:
        kinds = list(step_kinds(recipe, batches))
        self.shares = Counter(kinds)
        self._recipe, self._batches, self._execution = recipe, batches, execution
        self._numbers = {kind: kinds.index(kind) for kind in self.shares}
        self._network = copy.deepcopy(network).train()
        self._optimizer = make_optimizer(self._network, recipe.optimization, products=execution.precision)

    def step(self, kind: StepKind) -> float:
        """Train on one batch of this kind; the seconds of a step, which may be one of several such batches."""
        self._optimizer.zero_grad()
        started = time.perf_counter()
        batch = self._batch(kind)
        if self._execution.loading_threads:  # in training, threads make it meanwhile
            started = self._clock()
        self._backward(batch, kind)
        done = self._clock()
        average_gradients(self._network)
        self._optimizer.step()
        return self._recipe.optimization.accumulate * (done - started) + self._clock() - done

    def _clock(self) -> float:
        """The time when the device has done what it was told."""
        if self._execution.device.type == "cuda":
            torch.cuda.synchronize(self._execution.device)
        return time.perf_counter()

    def _batch(self, kind: StepKind) -> Batch:
        batch, device = self._batches.batch(self._numbers[kind]), self._execution.device
        return batch._replace(
            images=batch.images.to(device),
            labels=batch.labels.to(device),
            other_labels=batch.other_labels.to(device),
        )

    def _backward(self, batch: Batch, kind: StepKind) -> None:
        loss, _ = training_loss(
            self._network, batch, self._execution, self._recipe.label_smoothing, head_only=kind.head_only
        )
        loss.backward()  # type: ignore[no-untyped-call]

    def mean(self, seconds: Mapping[StepKind, float]) -> float:
        """Seconds an optimizer step, the mean over the run, from those a step of each kind."""
        return sum(count * seconds[kind] for kind, count in self.shares.items()) / self.shares.total()


def measure_budget(
    network: nn.Module, recipe: Recipe, batches: TrainingBatches, execution: Execution
) -> Budget:
    """Time a few real steps of each kind the run has and see how many fit into `recipe.time`.

    `batches` must be a run of `PROBES` batches; `network` is copied, not trained. The first steps of each kind are not
    counted, validations are not included in the budget. Several processes call this together, and exchange gradients.
    """
    assert recipe.time is not None
    probe = Probe(network, recipe, batches, execution)
    timings: dict[StepKind, list[float]] = {kind: [] for kind in probe.shares}
    # In rounds, so that what disturbs the machine for seconds spoils one step in five of every kind, which a median
    # bears, and not all five of one kind.
    schedule = [(kind, repeat) for repeat in range(WARMUP_STEPS + TIMED_STEPS) for kind in probe.shares]
    shown = track(schedule, total=len(schedule), description="measuring speed", unit="steps")
    for kind, repeat in shown if this_process().first else schedule:
        seconds = probe.step(kind)
        if repeat >= WARMUP_STEPS:
            timings[kind].append(seconds)
    medians = {kind: statistics.median(values) for kind, values in timings.items()}
    return Budget(max(1, int(parse_duration(recipe.time) / probe.mean(medians))), medians)


def measure_in_turns(probes: Sequence[Probe], *, budget: float) -> list[list[float]]:
    """By turn, the mean seconds an optimizer step of each of `probes`, which take one step of each kind every turn.

    What the machine's speed does from minute to minute meets all of them alike. `budget` is the time they will train
    for, in seconds each; measuring ends early where it would take more than a tenth of that.
    """
    started, turns = time.perf_counter(), []
    shown = track(
        range(WARMUP_STEPS + MOST_TURNS),
        total=WARMUP_STEPS + MOST_TURNS,
        description="measuring speed",
        unit="turns",
    )
    for turn in shown:
        means = [probe.mean({kind: probe.step(kind) for kind in probe.shares}) for probe in probes]
        if turn >= WARMUP_STEPS:
            turns.append(means)
        if len(turns) >= FEWEST_TURNS and time.perf_counter() - started > budget * len(probes) / 10:
            break
    return turns

"""A run made ready: data opened, network built, and what its recipe left open decided."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from resattn.data.batches import EvaluationBatches, TrainingBatches
from resattn.data.held_out import HELD_OUT, KEPT
from resattn.data.label_noise import with_label_noise
from resattn.data.packed import PackedSplit, open_split
from resattn.errors import ResattnError
from resattn.hardware import Execution, choose_execution, keep_freed_memory
from resattn.models.network import ResidualAttentionNetwork
from resattn.training.budget import PROBES, measure_budget, steps_for_epochs
from resattn.training.class_weights import balanced_weights, told_if_uneven
from resattn.training.fine_tuning import starting_network
from resattn.training.processes import ALONE, Processes, first_decides, largest, require_same, this_process
from resattn.training.progress_display import Series
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder
from resattn.training.stopping import Listener
from resattn.training.synchronized_norm import synchronize_norms

DEFAULT_TIME = "10m"


@dataclass(frozen=True)
class Job:
    """A run that is ready to go: its folder, resolved recipe, data, network on its device, and who listens to it.

    `series` says where it stands among others.
    """

    folder: RunFolder
    recipe: Recipe
    execution: Execution
    train: PackedSplit
    val: PackedSplit
    network: ResidualAttentionNetwork
    processes: Processes = ALONE
    listeners: Sequence[Listener] = ()
    series: Series | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        assert self.recipe.steps is not None
        return self.recipe.steps

    @property
    def class_weights(self) -> Tensor | None:
        """What an image of each class counts in the training loss; None where all count alike."""
        if self.recipe.class_weights == "none":
            return None
        return balanced_weights(self.train.labels, len(self.train.class_ids))

    @property
    def validate_every(self) -> int:
        """Batches between validations: more than an even share, so that the last one is the final evaluation.

        Two steps at least: of steps before a validation no checkpoint is saved, and a run has to have some.
        """
        return max(2, self.steps // self.recipe.validations + 1) * self.recipe.optimization.accumulate

    def batches(self, count: int) -> TrainingBatches:
        """This process's share of the batches of a run that has `count` of them."""
        return training_batches(
            self.recipe,
            self.train,
            count=count,
            rank=self.processes.rank,
            world=self.processes.world,
            workers=self.execution.loading_threads,
        )

    def validation_batches(self) -> EvaluationBatches:
        """This process's share of the validation split, a batch at least."""
        images, world = len(self.val.images), self.processes.world
        share = math.ceil(images / world)
        if share * (world - 1) >= images:  # the last process would have none
            share = images // world
        return EvaluationBatches(
            self.val,
            batch_size=min(self.recipe.batch_size, share),
            rank=self.processes.rank,
            world=self.processes.world,
        )


def training_split(recipe: Recipe) -> PackedSplit:
    """The images a run trains on: all of train, or those that are not held out for its validations."""
    return open_split(recipe.data, KEPT if recipe.validate_on == HELD_OUT else "train")


def open_splits(recipe: Recipe) -> tuple[PackedSplit, PackedSplit]:
    """The images a run trains on and those it is measured on.

    Raises ResattnError for data that is not prepared, or whose images are too small for the augmentation.
    """
    train, val = training_split(recipe), open_split(recipe.data, recipe.validate_on)
    shortest = min(train.images.shape[1:3])
    if recipe.augmentation.shift >= shortest:
        raise ResattnError(
            f"augmentation.shift is {recipe.augmentation.shift}, and the images of {recipe.data} are {shortest} pixels",
            "choose a smaller shift",
        )
    return train, val


def training_batches(
    recipe: Recipe, split: PackedSplit, *, count: int, rank: int = 0, world: int = 1, workers: int = 0
) -> TrainingBatches:
    """The batches of `split` as a run of `count` batches by this recipe sees them."""
    return TrainingBatches(
        with_label_noise(split, recipe.label_noise, seed=recipe.seed),
        batch_size=recipe.batch_size,
        batches=count,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        start_scale=recipe.start_scale,
        size_ramp=recipe.size_ramp,
        rank=rank,
        world=world,
        workers=workers,
    )


def resolve(recipe: Recipe, folder: RunFolder, weights: Path | None, processes: Processes = ALONE) -> Job:
    """Open the data, build the network, and fix what the recipe left open: precision, then steps."""
    job = without_steps(recipe, folder, weights, processes)
    _announce(job, weights)
    return replace(job, recipe=_with_steps(job))


def without_steps(
    recipe: Recipe, folder: RunFolder, weights: Path | None, processes: Processes = ALONE
) -> Job:
    """A run whose length is not settled yet: data open, network built, precision chosen.

    Raises what `train` raises before it begins.
    """
    processes.require_even_shares(recipe.batch_size)
    train_split, val_split = open_splits(recipe)
    _require_fit_for(processes, train_split, val_split)
    keep_freed_memory()
    execution = first_decides(lambda: choose_execution(recipe.precision))
    network = starting_network(recipe, train_split.class_ids, weights)
    if processes.world > 1:
        synchronize_norms(network, execution.device)
    network.to(device=execution.device, memory_format=execution.memory_format)  # type: ignore[call-overload]
    recipe = recipe.replace(precision=execution.precision)
    return Job(folder, recipe, execution, train_split, val_split, network, processes)


def _require_fit_for(processes: Processes, train: PackedSplit, val: PackedSplit) -> None:
    """Raise ResattnError where machines have other data than the first, or a process no image to validate on."""
    require_same(
        [(split.source_sha256, tuple(split.images.shape)) for split in (train, val)],
        what=f"{train.data} was prepared otherwise, or from other files,",
        mend="prepare it on every machine with the same command, from the same files",
    )

    def require_a_share() -> None:
        if not len(val.images):
            raise ResattnError(
                f"{train.data} has no images to validate on: held-out ones are of classes with two images or more",
                "prepare the data with more images",
            )
        if len(val.images) < processes.world:
            raise ResattnError(
                f"{train.data} has {len(val.images)} images to validate on, too few for {processes.world} processes",
                "train with fewer processes, or prepare the data with more images to validate on",
            )

    first_decides(require_a_share)


def _announce(job: Job, weights: Path | None) -> None:
    recipe, several = job.recipe, job.processes.world > 1
    images = f"{len(job.train.images):,} training images"
    say(
        f"{recipe.model} on {recipe.data}: {images}, {job.execution.device}"
        + (f", {job.processes.world} processes" if several else "")
    )
    uneven = told_if_uneven(job.train.labels, job.train.class_names)
    if uneven and recipe.class_weights == "none":
        say(f"note: {uneven}")
    if weights:
        say(f"starting from {recipe.start_from}")
    say(f"precision {job.execution.precision}: {job.execution.reason}")


def _with_steps(job: Job) -> Recipe:
    recipe = job.recipe
    if recipe.steps is not None:
        return recipe
    if recipe.epochs is not None:
        steps = steps_for_epochs(recipe, len(job.train.images))
        say(f"{recipe.epochs:g} epochs: {steps:,} steps")
        return recipe.replace(steps=steps)
    recipe = recipe.replace(time=recipe.time or DEFAULT_TIME)
    budget = measure_budget(job.network, recipe, job.batches(PROBES), job.execution)
    say(f"budget {recipe.time}: {budget}")
    # The slowest process decides.
    return recipe.replace(steps=-largest(-budget.steps))


def say(line: str) -> None:
    """Tell the user something about a run; of several processes only the first speaks."""
    if this_process().first:
        print(line, file=sys.stderr, flush=True)

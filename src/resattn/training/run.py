"""One run from recipe to results: folder, fit or resume, averaged weights, final evaluation, figures."""

import logging
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from resattn import figures
from resattn.data.batches import EvaluationBatches, TrainingBatches
from resattn.data.held_out import HELD_OUT, KEPT
from resattn.data.label_noise import with_label_noise
from resattn.data.packed import PackedSplit, open_split, verify
from resattn.errors import ResattnError
from resattn.evaluation.classification import ClassificationResult, evaluate, write_results
from resattn.evaluation.examples import examples_sheet
from resattn.hardware import Execution, choose_execution, keep_freed_memory
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.weights import load_weights, save_weights
from resattn.training.budget import PROBES, measure_budget, steps_for_epochs
from resattn.training.checkpoints import AtomicCheckpointIO, Checkpoints, newest_readable
from resattn.training.fine_tuning import starting_network, starting_point
from resattn.training.history import History, read_history
from resattn.training.own_images import with_packed_folder
from resattn.training.progress_display import ProgressDisplay, Series
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder
from resattn.training.stopping import Listener, StopOnSignal, StopSignals
from resattn.training.task import Classification, NonFiniteLoss

DEFAULT_TIME = "10m"
CHECKPOINT_SECONDS = 60.0
ROWS_PER_RUN = 400


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
    listeners: Sequence[Listener] = ()
    series: Series | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        assert self.recipe.steps is not None
        return self.recipe.steps

    @property
    def validate_every(self) -> int:
        """Batches between validations: more than an even share, so that the last one is the final evaluation."""
        return (self.steps // self.recipe.validations + 1) * self.recipe.optimization.accumulate

    def batches(self, count: int) -> TrainingBatches:
        """The batches of a run that has `count` of them."""
        workers = self.execution.loading_threads
        return training_batches(self.recipe, self.train, count=count, workers=workers)


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


def train(
    recipe: Recipe,
    folder: RunFolder,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    listeners: Sequence[Listener] = (),
    series: Series | None = None,
) -> ClassificationResult:
    """Train by `recipe` in a new run folder, evaluate the averaged weights on the validation split, draw figures.

    Raises ResattnError for a folder that holds a run or that another process trains in, data or a model that is not
    there, and a loss that is not finite; TrainingStopped after Ctrl-C or SIGTERM, and RunEnded after a word of one of
    `listeners`, with a checkpoint saved.
    """
    folder.require_free()
    recipe, weights = starting_point(with_packed_folder(recipe))
    job = replace(_resolve(recipe, folder, weights), listeners=listeners, series=series)
    with folder.exclusively():
        folder.start(job.recipe, job.execution, data_sha256=job.train.source_sha256, weights=weights)
        return _carry_out(job, checkpoint_seconds)


def resume(
    folder: RunFolder,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    listeners: Sequence[Listener] = (),
    series: Series | None = None,
) -> ClassificationResult:
    """Go on with a run that was stopped or killed; it ends in the same weights as if it had not been.

    Raises ResattnError where there is no run or it is finished, for data that is not what it was, and else what `train`
    raises.
    """
    recipe = folder.recipe()
    if folder.results_file.exists():
        raise ResattnError(f"the run in {folder.path} is finished", f"see `resattn evaluate {folder.path}`")
    job = _resolve(recipe, folder, folder.start_file if recipe.start_from else None)
    job = replace(job, listeners=listeners, series=series)
    folder.require_same_data(recipe.data, job.train.source_sha256)
    verify(recipe.data)
    with folder.exclusively():
        return _carry_out(job, checkpoint_seconds)


def resolved_steps(recipe: Recipe) -> int:
    """The steps of a run by `recipe`, as it would begin now: a time is measured, epochs are counted.

    Raises what `train` raises before it begins.
    """
    recipe, weights = starting_point(with_packed_folder(recipe))
    return _resolve(recipe, RunFolder(Path()), weights).steps


def _resolve(recipe: Recipe, folder: RunFolder, weights: Path | None) -> Job:
    """Open the data, build the network, and fix what the recipe left open: precision, then steps."""
    held_out = recipe.validate_on == HELD_OUT
    train_split = open_split(recipe.data, KEPT if held_out else "train")
    val_split = open_split(recipe.data, recipe.validate_on)
    shortest = min(train_split.images.shape[1:3])
    if recipe.augmentation.shift >= shortest:
        raise ResattnError(
            f"augmentation.shift is {recipe.augmentation.shift}, and the images of {recipe.data} are {shortest} pixels",
            "choose a smaller shift",
        )
    keep_freed_memory()
    execution = choose_execution(recipe.precision)
    network = starting_network(recipe, train_split.class_ids, weights)
    network.to(device=execution.device, memory_format=execution.memory_format)  # type: ignore[call-overload]
    recipe = recipe.replace(precision=execution.precision)
    job = Job(folder, recipe, execution, train_split, val_split, network)
    _say(f"{recipe.model} on {recipe.data}: {len(train_split.images):,} training images, {execution.device}")
    if weights:
        _say(f"starting from {recipe.start_from}")
    _say(f"precision {execution.precision}: {execution.reason}")
    if recipe.steps is not None:
        return job
    return replace(job, recipe=_with_steps(job))


def _with_steps(job: Job) -> Recipe:
    recipe = job.recipe
    if recipe.epochs is not None:
        return recipe.replace(steps=steps_for_epochs(recipe, len(job.train.images)))
    recipe = recipe.replace(time=recipe.time or DEFAULT_TIME)
    budget = measure_budget(job.network, recipe, job.batches(PROBES), job.execution)
    _say(f"budget {recipe.time}: {budget}")
    return recipe.replace(steps=budget.steps)


def _carry_out(job: Job, checkpoint_seconds: float) -> ClassificationResult:
    """Fit unless the weights lie there already, then evaluate them."""
    with StopSignals() as signals:
        if not job.folder.weights_file.exists():
            history = _fit(job, signals, checkpoint_seconds)
            save_weights(job.folder.weights_file, job.network, metadata=_metadata(job, history))
        return _finish(job)


def _fit(job: Job, signals: StopSignals, checkpoint_seconds: float) -> History:
    """Train, or go on training, to the last step; `job.network` then holds the averaged weights."""
    batches = job.steps * job.recipe.optimization.accumulate
    checkpoints = Checkpoints(
        job.folder.checkpoints,
        seconds=checkpoint_seconds,
        validate_every=job.validate_every,
        accumulate=job.recipe.optimization.accumulate,
        batches=batches,
    )
    history = History(
        job.folder.metrics_file, every=max(1, batches // ROWS_PER_RUN), train_images=len(job.train.images)
    )
    resumed, notes = newest_readable(job.folder.checkpoints)
    for note in notes:
        _say(note)
    if resumed:
        _say(f"resuming from {resumed}")
    _quiet_lightning()
    trainer = _trainer(job, _callbacks(job, history, checkpoints, signals))
    try:
        trainer.fit(
            Classification(job.network, job.recipe, job.execution, classes=len(job.train.class_ids)),
            train_dataloaders=job.batches(batches),
            val_dataloaders=EvaluationBatches(job.val, batch_size=job.recipe.batch_size),
            ckpt_path=resumed,
            weights_only=True,
        )
    except NonFiniteLoss as error:
        good = checkpoints.newest or resumed
        raise NonFiniteLoss(
            f"{error.what}; last good checkpoint: {good or 'none yet'}",
            "train again with a lower --optimization.lr, or with --optimization.clip 1",
        ) from error
    return history


def _callbacks(
    job: Job, history: History, checkpoints: Checkpoints, signals: StopSignals
) -> list[pl.Callback]:
    """In the order in which they act after a step: the average first, so that a checkpoint has it."""
    callbacks: list[pl.Callback] = [
        history,
        ProgressDisplay(history, steps=job.steps, series=job.series),
        *job.listeners,
        checkpoints,
        StopOnSignal(signals, checkpoints, job.listeners),
    ]
    span = job.recipe.averaging * job.steps
    if span == 0:
        return callbacks
    # Lightning's own exponential average goes over one tensor at a time, which costs more than the averaging.
    average = get_ema_multi_avg_fn(1 - 1 / max(1.0, span))  # type: ignore[no-untyped-call]
    return [WeightAveraging(multi_avg_fn=average), *callbacks]


def _trainer(job: Job, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's loop, one epoch of which is the whole run, without what `callbacks` do instead."""
    optimization = job.recipe.optimization
    batches = job.steps * optimization.accumulate
    return pl.Trainer(
        accelerator="gpu" if job.execution.device.type == "cuda" else "cpu",
        devices=1,
        benchmark=job.execution.device.type == "cuda",
        max_epochs=1,
        max_steps=job.steps,
        accumulate_grad_batches=optimization.accumulate,
        gradient_clip_val=optimization.clip or None,
        val_check_interval=min(job.validate_every, batches),
        check_val_every_n_epoch=None,
        limit_val_batches=1.0 if job.validate_every < batches else 0,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _finish(job: Job) -> ClassificationResult:
    """Evaluate the weights that were written, and draw what people would rather look at than read."""
    network = load_weights(job.folder.weights_file)
    result = evaluate(network, job.val)
    rows = read_history(job.folder.metrics_file)
    if math.isnan(rows["val_loss"][-1]):
        _append_final_row(job, result)
        rows = read_history(job.folder.metrics_file)
    title = f"{job.recipe.model} on {job.recipe.data}"
    subtitle = (
        f"{job.steps:,} steps of {job.recipe.batch_size}, seed {job.recipe.seed}: top-1 {result.top1:.2%}"
    )
    curves = figures.learning_curves(rows, title=title, subtitle=subtitle)
    figures.save(curves, job.folder.path / "learning_curves.png")
    sheet = examples_sheet(
        network, job.val, title=title, subtitle=f"{result.split} images and where the masks look"
    )
    figures.save(sheet, job.folder.path / "predictions.png")
    write_results(result, job.folder.path)
    return result


def _append_final_row(job: Job, result: ClassificationResult) -> None:
    history = History(job.folder.metrics_file, every=1, train_images=len(job.train.images))
    last = read_history(job.folder.metrics_file)
    history.images = job.steps * job.recipe.batch_size * job.recipe.optimization.accumulate
    history.seconds = float(last["seconds"][-1])
    scores = {"val_loss": result.loss, "val_top1": result.top1, "val_top5": result.top5}
    history.append_final(job.steps, scores, size=job.val.images.shape[1])


def _metadata(job: Job, history: History) -> dict[str, Any]:
    return {
        "data": job.recipe.data,
        "input_size": job.train.images.shape[1],
        "label_names": list(job.train.class_ids),
        "label_descriptions": dict(zip(job.train.class_ids, job.train.class_names, strict=True)),
        "recipe": job.recipe.to_yaml(),
        "train_seconds": round(history.seconds, 1),
    }


def _quiet_lightning() -> None:
    """Lightning's banners and hints speak of arguments that our users cannot see."""
    for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""One run from recipe to results: folder, fit or resume, averaged weights, final evaluation, figures."""

import logging
import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import DDPStrategy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from resattn import figures
from resattn.data.packed import verify
from resattn.errors import ResattnError
from resattn.evaluation.classification import ClassificationResult, evaluate, write_results
from resattn.evaluation.examples import examples_sheet
from resattn.evaluation.mistakes import write_answers
from resattn.models.weights import load_weights, save_weights
from resattn.training.budget import step_kinds
from resattn.training.checkpoints import AtomicCheckpointIO, Checkpoints, newest_readable
from resattn.training.fine_tuning import starting_point
from resattn.training.history import History, read_history
from resattn.training.job import Job, resolve, say
from resattn.training.own_images import with_packed_folder
from resattn.training.processes import ALONE, Processes, first_decides, largest, together
from resattn.training.progress_display import ProgressDisplay, Series
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder
from resattn.training.stopping import Listener, StopOnSignal, StopSignals
from resattn.training.task import Classification, NonFiniteLoss
from resattn.training.time_left import TimeLeft

CHECKPOINT_SECONDS = 60.0
ROWS_PER_RUN = 400


def train(
    recipe: Recipe,
    folder: RunFolder,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    listeners: Sequence[Listener] = (),
    series: Series | None = None,
    processes: Processes = ALONE,
) -> ClassificationResult:
    """Train by `recipe` in a new run folder, evaluate the averaged weights on the validation split, draw figures.

    `processes` train together where there are several, each of which calls this; they share the folder. Raises
    ResattnError for a folder that holds a run or that another process trains in, data or a model that is not there, and
    a loss that is not finite; TrainingStopped after Ctrl-C or SIGTERM, and RunEnded after a word of one of `listeners`,
    with a checkpoint saved.
    """

    def begin() -> tuple[Recipe, Path | None]:
        folder.require_free()
        return starting_point(with_packed_folder(recipe))

    def start() -> None:
        folder.start(
            job.recipe,
            job.execution,
            data_sha256=job.train.source_sha256,
            data_size=job.train.images.shape[1],
            weights=weights,
            processes=processes.world,
        )

    with together(processes), ExitStack() as held:
        known, weights = first_decides(begin)
        job = replace(resolve(known, folder, weights, processes), listeners=listeners, series=series)
        first_decides(lambda: _hold(folder, held))
        first_decides(start)
        return _carry_out(job, checkpoint_seconds)


def resume(
    folder: RunFolder,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    listeners: Sequence[Listener] = (),
    series: Series | None = None,
    processes: Processes = ALONE,
) -> ClassificationResult:
    """Go on with a run that was stopped or killed; it ends in the same weights as if it had not been.

    `processes` as for `train`; another number of them than the run began with ends in weights that are the same up to
    rounding, where nothing is dropped out. Raises ResattnError where there is no run or it is finished, for data that
    is not what it was, and else what `train` raises.
    """

    def check() -> Recipe:
        recipe = folder.recipe()
        if folder.results_file.exists():
            raise ResattnError(
                f"the run in {folder.path} is finished", f"see `resattn evaluate {folder.path}`"
            )
        return recipe

    def check_data() -> None:
        folder.require_same_data(recipe.data, job.train.source_sha256, job.train.images.shape[1])
        verify(recipe.data)
        began = folder.environment().get("processes", 1)
        if began != processes.world:
            say(f"note: begun by {began} processes, and now there are {processes.world}")

    with together(processes), ExitStack() as held:
        recipe = first_decides(check)
        job = resolve(recipe, folder, folder.start_file if recipe.start_from else None, processes)
        job = replace(job, listeners=listeners, series=series)
        first_decides(check_data)
        first_decides(lambda: _hold(folder, held))
        if not folder.weights_file.exists():  # else it is evaluated only
            first_decides(lambda: folder.note_sitting(job.execution, processes=processes.world))
        return _carry_out(job, checkpoint_seconds)


def train_or_go_on(
    recipe: Recipe,
    folder: RunFolder,
    processes: Processes,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> ClassificationResult:
    """`train`; where torchrun has started the processes anew and the run is there already, `resume`."""
    with together(processes):
        if largest(processes.restarts) and first_decides(folder.recipe_file.exists):
            return resume(folder, checkpoint_seconds=checkpoint_seconds, processes=processes)
        return train(recipe, folder, checkpoint_seconds=checkpoint_seconds, processes=processes)


def _hold(folder: RunFolder, held: ExitStack) -> None:
    held.enter_context(folder.exclusively())


def _carry_out(job: Job, checkpoint_seconds: float) -> ClassificationResult:
    """Fit unless the weights lie there already, then evaluate them."""
    with StopSignals(insistent=job.processes.world == 1) as signals:
        if not first_decides(job.folder.weights_file.exists):
            history = _fit(job, signals, checkpoint_seconds)
            metadata = _metadata(job, history)
            first_decides(lambda: save_weights(job.folder.weights_file, job.network, metadata=metadata))
        return first_decides(lambda: _finish(job))


def _fit(job: Job, signals: StopSignals, checkpoint_seconds: float) -> History:
    """Train, or go on training, to the last step; `job.network` then holds the averaged weights."""
    batches = job.steps * job.recipe.optimization.accumulate
    checkpoints = Checkpoints(
        job.folder.checkpoints,
        seconds=checkpoint_seconds,
        validate_every=job.validate_every,
        accumulate=job.recipe.optimization.accumulate,
        batches=batches,
        keeps=job.processes.first,
    )
    history = History(
        job.folder.metrics_file, every=max(1, batches // ROWS_PER_RUN), train_images=len(job.train.images)
    )
    resumed, notes = first_decides(lambda: newest_readable(job.folder.checkpoints))
    for note in notes:
        say(note)
    if resumed:
        say(f"resuming from {resumed}")
    _quiet_lightning()
    train_batches = job.batches(batches)
    display = ProgressDisplay(
        history,
        steps=job.steps,
        left=TimeLeft(step_kinds(job.recipe, train_batches)),
        series=job.series,
    )
    trainer = _trainer(job, _callbacks(job, history, display, checkpoints, signals))
    try:
        trainer.fit(
            Classification(
                job.network,
                job.recipe,
                job.execution,
                classes=len(job.train.class_ids),
                class_weights=job.class_weights,
            ),
            train_dataloaders=train_batches,
            val_dataloaders=job.validation_batches(),
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
    job: Job, history: History, display: ProgressDisplay, checkpoints: Checkpoints, signals: StopSignals
) -> list[pl.Callback]:
    """In the order in which they act after a step: the average first, so that a checkpoint has it."""
    callbacks: list[pl.Callback] = [
        history,
        *([display] if job.processes.first else []),
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
    # While the classifier learns alone, the rest has no gradients to wait for. Synchronised norms have equal buffers.
    strategy = DDPStrategy(find_unused_parameters=job.recipe.head_first > 0, broadcast_buffers=False)
    return pl.Trainer(
        accelerator="gpu" if job.execution.device.type == "cuda" else "cpu",
        devices=job.processes.local_world,
        num_nodes=job.processes.machines,
        strategy=strategy if job.processes.world > 1 else "auto",
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
    write_answers(network, job.val, result.answers, job.folder.path, title=title)
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

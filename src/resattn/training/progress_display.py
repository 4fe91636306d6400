"""What a user sees while a run trains: a bar on a terminal, plain lines in a log."""

import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from resattn.training.history import History
from resattn.training.time_left import TimeLeft

PLAIN_LINE_SECONDS = 20.0
SMOOTHING = 0.9


@dataclass(frozen=True)
class Series:
    """Where a run stands among others: it is number `number`, from 1, of `total`, and is called `label`."""

    number: int
    total: int
    label: str

    def __str__(self) -> str:
        return f"run {self.number} of {self.total}, {self.label}"


class ProgressDisplay(pl.Callback):
    """Steps done, images/s, loss, accuracy, the last validation and the time left; of a series, its progress above."""

    def __init__(self, history: History, *, steps: int, left: TimeLeft, series: Series | None = None) -> None:
        self.history = history
        self.steps = steps
        self.left = left
        self.series = series
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._whole = TaskID(0)
        self._validation = ""
        self._speed = 0.0
        self._clock = self._last_line = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Draw the bar."""
        self._clock = self._last_line = time.monotonic()
        if sys.stderr.isatty() and trainer.is_global_zero:
            columns = (
                TextColumn("{task.description}", markup=False),  # arms are called as their files say
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                TextColumn("{task.fields[left]}", style="progress.remaining"),
            )
            self._progress = Progress(*columns, console=Console(stderr=True))
            if self.series:
                # In steps of this run, so that both bars move together.
                self._whole = self._progress.add_task(
                    str(self.series),
                    total=self.series.total * self.steps,
                    completed=self._steps_of_series(trainer.global_step),
                    status="",
                    left="",
                )
            self._task = self._progress.add_task(
                "training", total=self.steps, completed=trainer.global_step, status="", left=""
            )
            self._progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by one batch."""
        now = time.monotonic()
        seconds = now - self._clock
        speed = len(batch.labels) * trainer.world_size / max(seconds, 1e-9)
        self._speed = SMOOTHING * self._speed + (1 - SMOOTHING) * speed if self._speed else speed
        self._clock = now
        self.left.took(batch_idx, seconds)
        self._show(trainer.global_step, self.left.seconds(done=batch_idx + 1))

    def on_validation_start(self, *_: Any) -> None:
        """Say that a validation runs."""
        if self._progress:
            self._progress.update(self._task, description="validating")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show the validation's figures."""
        top1, loss = pl_module.val_metrics["val_top1"], pl_module.val_metrics["val_loss"]
        self._validation = f"  val {top1:.1%}"
        if self._progress:
            self._progress.update(self._task, description="training")
        elif trainer.is_global_zero:
            step = trainer.global_step
            print(f"step {step:,}: validation top-1 {top1:.2%}, loss {loss:.3f}", file=sys.stderr, flush=True)
        self._clock = time.monotonic()

    def on_train_end(self, *_: Any) -> None:
        """Leave the finished bar standing."""
        self._stop()

    def on_exception(self, *_: Any) -> None:
        """Leave the terminal clean."""
        self._stop()

    def _steps_of_series(self, step: int) -> int:
        assert self.series
        return (self.series.number - 1) * self.steps + step

    def _stop(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _show(self, step: int, left: float) -> None:
        latest = self.history.latest
        status = f"{self._speed:,.0f} images/s  loss {latest['train_loss']:.3f}  acc {latest['train_accuracy']:.1%}"
        if self._progress:
            self._progress.update(
                self._task, completed=step, status=status + self._validation, left=_clock_time(left)
            )
            if self.series:
                others = (self.series.total - self.series.number) * self.left.seconds(done=0)
                self._progress.update(
                    self._whole, completed=self._steps_of_series(step), left=_clock_time(left + others)
                )
        elif time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            line = f"step {step:,} of {self.steps:,}  {status}  {left / 60:.1f} min left"
            print(line, file=sys.stderr, flush=True)


def _clock_time(seconds: float) -> str:
    """H:MM:SS, as rich says it, with the days before where there are any."""
    return str(timedelta(seconds=round(seconds)))

"""metrics.csv: what happened, row by row, exact across restarts."""

import csv
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from resattn.files import whole_text_file, writing

COLUMNS = (
    "step",
    "epoch",
    "images",
    "seconds",
    "lr",
    "size",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_top1",
    "val_top5",
)


class History(pl.Callback):
    """Appends a row every `every` steps (means since the last row) and one for every validation.

    `seconds` is time spent training, without validations and without the time between a kill and a resume.
    Rows a killed run wrote after its last checkpoint are cut off when it resumes.
    """

    def __init__(self, path: Path, *, every: int, train_images: int) -> None:
        self.path = path
        self.every = every
        self.train_images = train_images
        self.images = 0
        self.seconds = 0.0
        self.latest: dict[str, float] = {}
        self._loss = self._accuracy = 0.0
        self._batches = 0
        self._clock = time.monotonic()

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {
            "images": self.images,
            "seconds": self.seconds,
            "loss": self._loss,
            "accuracy": self._accuracy,
            "batches": self._batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]
        self._loss, self._accuracy = state_dict["loss"], state_dict["accuracy"]
        self._batches = state_dict["batches"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the file, or cut it back to the batch resumed from."""
        if trainer.is_global_zero:
            rows = [row for row in read_rows(self.path) if int(row["images"]) <= self.images]
            _write_whole(self.path, rows)
        self._clock = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the batch, and write a row where one is due."""
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        self.images += len(batch.labels) * trainer.world_size
        self._loss += float(pl_module.train_metrics["train_loss"])
        self._accuracy += float(pl_module.train_metrics["train_accuracy"])
        self._batches += 1
        self.latest = {
            "train_loss": self._loss / self._batches,
            "train_accuracy": self._accuracy / self._batches,
            "size": batch.images.shape[-1],
        }
        if self._batches >= self.every:
            self._append(trainer, self.latest)
            self._loss = self._accuracy = 0.0
            self._batches = 0

    def on_validation_start(self, *_: Any) -> None:
        """Stop the clock."""
        self.seconds += time.monotonic() - self._clock

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the validation's row and start the clock again."""
        self._append(trainer, pl_module.val_metrics)
        self._clock = time.monotonic()

    def append_final(self, step: int, metrics: dict[str, float], size: int) -> None:
        """The last row: the evaluation of the weights that are kept."""
        row: dict[str, float] = {
            "step": step,
            "epoch": self.images / self.train_images,
            "images": self.images,
        }
        row |= {"seconds": round(self.seconds, 3), "lr": 0.0, "size": size, **metrics}
        _write_whole(self.path, [*read_rows(self.path), row])  # the last line may have been cut short

    def _append(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        row: dict[str, float] = {
            "step": trainer.global_step,
            "epoch": self.images / self.train_images,
            "images": self.images,
            "seconds": round(self.seconds, 3),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "size": self.latest.get("size", 0),
            **metrics,
        }
        if trainer.is_global_zero:
            self._write(row)

    def _write(self, row: dict[str, float]) -> None:
        with writing(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)


def _write_whole(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with whole_text_file(path) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a metrics.csv; a last line cut short by a kill is left out, no file is no rows."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        # Too few values are under their columns as None, too many under None as a list.
        return [
            row
            for row in csv.DictReader(file)
            if row["step"].isdigit() and None not in row.values() and None not in row
        ]


def read_history(path: Path) -> dict[str, np.ndarray]:
    """metrics.csv as one float array a column, NaN where a row has no value."""
    rows = read_rows(path)
    return {name: np.array([float(row[name] or math.nan) for row in rows]) for name in COLUMNS}

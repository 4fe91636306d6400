"""Checkpoints that are whole or not there, and the newest one that can be read."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from resattn.errors import ResattnError
from resattn.files import whole_file

KEPT = 2


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, flushes to the disk, then renames."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`; ResattnError, and nothing left behind, where the disk refuses."""
        with whole_file(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # how torch tells of a disk that is full
                raise ResattnError(
                    f"cannot write checkpoint {path}: {error}", "make room there, then resume"
                ) from error


class Checkpoints(pl.Callback):
    """Saves every `seconds`, at most two kept.

    Only between optimizer steps (half-summed gradients are not saved) and never on the step before a validation
    (Lightning would resume into the middle of it): such a save waits for the next step. Nor on the last of the run's
    `batches`: a fit that resumes there ends before the weights are averaged.
    """

    def __init__(
        self, folder: Path, *, seconds: float, validate_every: int, accumulate: int, batches: int
    ) -> None:
        self.folder = folder
        self.seconds = seconds
        self.validate_every = validate_every
        self.accumulate = accumulate
        self.batches = batches
        self.saved_at = time.monotonic()
        self.newest: Path | None = None

    def may_save(self, batch_idx: int) -> bool:
        """Whether a checkpoint after batch `batch_idx` (from 0) resumes exactly."""
        done = batch_idx + 1
        between_steps = done % self.accumulate == 0
        return between_steps and done % self.validate_every != 0 and done < self.batches

    def save(self, trainer: pl.Trainer) -> Path:
        """Save now, and remove all but the newest two."""
        target = self.folder / f"step-{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(target)
        for old in checkpoint_files(self.folder)[KEPT:]:
            old.unlink(missing_ok=True)
        self.saved_at = time.monotonic()
        self.newest = target
        return target

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save where it is time to."""
        due = time.monotonic() - self.saved_at >= self.seconds
        if due and self.may_save(trainer.fit_loop.epoch_loop.batch_idx):
            self.save(trainer)


def checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints, newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def newest_readable(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that can be read, and a note for each newer one that cannot.

    Partial files of a killed run are removed. Checkpoints are read without unpickling anything but tensors.
    """
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    notes = []
    for path in checkpoint_files(folder):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            notes.append(f"checkpoint {path} is damaged ({type(error).__name__}); using the one before it")
        else:
            return path, notes
    return None, notes

"""Checkpoints that are whole or not there, and the newest one that can be read."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from resattn.data.durable import file_sha256
from resattn.errors import CannotWrite, ResattnError
from resattn.files import whole_file, whole_text_file
from resattn.training.processes import largest

KEPT = 2


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, flushes to the disk, then renames; a checksum lies there first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`; CannotWrite, and nothing left behind, where the disk refuses."""
        with whole_file(Path(path)) as temporary:
            try:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:  # how torch tells of a disk that is full
                raise CannotWrite(
                    f"cannot write checkpoint {path}: {error}", "make room there, then resume"
                ) from error
            with whole_text_file(checksum_file(Path(path))) as checksum:
                checksum.write(file_sha256(temporary) + "\n")


class Checkpoints(pl.Callback):
    """Saves every `seconds`, at most two kept.

    Only between optimizer steps (half-summed gradients are not saved) and never on the step before a validation
    (Lightning would resume into the middle of it): such a save waits for the next step. Nor on the last of the run's
    `batches`: a fit that resumes there ends before the weights are averaged. Of several processes the one that `keeps`
    the checkpoints says when, and removes the old ones.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float,
        validate_every: int,
        accumulate: int,
        batches: int,
        keeps: bool = True,
    ) -> None:
        self.folder = folder
        self.seconds = seconds
        self.validate_every = validate_every
        self.accumulate = accumulate
        self.batches = batches
        self.keeps = keeps
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
        for old in checkpoint_files(self.folder)[KEPT:] if self.keeps else ():
            old.unlink(missing_ok=True)
            checksum_file(old).unlink(missing_ok=True)
        self.saved_at = time.monotonic()
        self.newest = target
        return target

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save where it is time to."""
        due = self.keeps and time.monotonic() - self.saved_at >= self.seconds
        if self.may_save(trainer.fit_loop.epoch_loop.batch_idx) and largest(due):
            self.save(trainer)


def checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints, newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def checksum_file(checkpoint: Path) -> Path:
    """Where the SHA-256 of a checkpoint lies."""
    return checkpoint.with_suffix(".sha256")


def newest_readable(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is what was written, and a note for each newer one that is not.

    Those are set aside: they would count as the newest, for which later ones make room. Partial files of a killed run
    are removed, and checksums whose checkpoint never came. Raises ResattnError for a checkpoint that is there and
    cannot be read now: it may be whole.
    """
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    for orphan in folder.glob("step-*.sha256"):
        if not orphan.with_suffix(".ckpt").exists():
            orphan.unlink()
    notes: list[str] = []
    for path in checkpoint_files(folder):
        damage = _damage(path)
        if damage is None:
            return path, notes
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        checksum_file(path).unlink(missing_ok=True)
        then = "using the one before it" if checkpoint_files(folder) else "the run begins anew"
        notes.append(f"checkpoint {path} is damaged ({damage}): it is {aside.name} now; {then}")
    return None, notes


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where it is what was written, which its checksum says."""
    try:
        written = checksum_file(path).read_text(encoding="ascii").strip()
        return None if file_sha256(path) == written else "its checksum is another"
    except FileNotFoundError:
        return "its checksum is not there"
    except UnicodeDecodeError:
        return "its checksum cannot be read"
    except OSError as error:
        raise ResattnError(
            f"checkpoint {path} cannot be read: {error.strerror or error}",
            "see to that, then give the same command again",
        ) from error

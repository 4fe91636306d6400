"""A training process that kills itself, for real, at a moment the test names.

Arguments: recipe file, run folder, moment ("step", "checkpoint" or "validation").
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from resattn.training import run
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder
from resattn.training.task import Classification


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_step() -> None:
    original = Classification.training_step

    def training_step(self: Classification, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 7:
            die()
        return original(self, batch, batch_idx)

    Classification.training_step = training_step  # type: ignore[method-assign]


def kill_in_checkpoint() -> None:
    original = torch.save
    saved = 0

    def save(checkpoint: Any, file: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == 4:
            file.write(b"PK\x03\x04 the first bytes of a checkpoint")
            file.flush()
            die()
        original(checkpoint, file)

    torch.save = save


def kill_in_validation() -> None:
    original = Classification.validation_step
    seen = 0

    def validation_step(self: Classification, batch: Any, batch_idx: int) -> None:
        nonlocal seen
        seen += 1
        if seen == 4:
            die()
        original(self, batch, batch_idx)

    Classification.validation_step = validation_step  # type: ignore[method-assign]


if __name__ == "__main__":
    {"step": kill_in_step, "checkpoint": kill_in_checkpoint, "validation": kill_in_validation}[sys.argv[3]]()
    run.train(Recipe.from_yaml(Path(sys.argv[1])), RunFolder(Path(sys.argv[2])), checkpoint_seconds=0)

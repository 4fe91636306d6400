"""Training processes that kill themselves, for real, at moments the test names.

Arguments: recipe file, run folder, moment ("step", "checkpoint" or "validation"). Where several moments are named, each
has a process of its own and its run in the folder of its name below; how each process ended is printed, a line each.
"""

import os
import signal
import sys
from collections.abc import Iterator
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


def train_until(moment: str, recipe: str, folder: Path) -> None:
    {"step": kill_in_step, "checkpoint": kill_in_checkpoint, "validation": kill_in_validation}[moment]()
    run.train(Recipe.from_yaml(Path(recipe)), RunFolder(folder), checkpoint_seconds=0)


def how_each_ended(moments: list[str], recipe: str, folder: Path) -> Iterator[int]:
    """One after the other, in copies of this process, which has loaded torch already."""
    for moment in moments:
        tasks = Path("/proc/self/task")
        # What another thread held at this moment, a copy would wait for for ever.
        assert not tasks.exists() or len(list(tasks.iterdir())) == 1
        child = os.fork()
        if not child:
            train_until(moment, recipe, folder / moment)
            os._exit(0)
        yield os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    recipe, folder, *moments = sys.argv[1:]
    if len(moments) == 1:
        train_until(moments[0], recipe, Path(folder))
    else:
        print(*how_each_ended(moments, recipe, Path(folder)), sep="\n")

"""A study that kills itself, for real, in the middle of a run; checkpoints are written after every step.

Arguments: which run, counted from 1, and those of the `resattn` command.
"""

import functools
import os
import signal
import sys
from typing import Any

import resattn_launcher
from resattn.training import run
from resattn.training.task import Classification


def die_in_run(number: int) -> None:
    original = Classification.training_step
    begun = 0

    def training_step(self: Classification, batch: Any, batch_idx: int) -> Any:
        nonlocal begun
        begun += batch_idx == 0
        if begun == number and batch_idx == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch, batch_idx)

    Classification.training_step = training_step  # type: ignore[method-assign]
    run.train = functools.partial(run.train, checkpoint_seconds=0)


if __name__ == "__main__":
    die_in_run(int(sys.argv.pop(1)))
    resattn_launcher.main()

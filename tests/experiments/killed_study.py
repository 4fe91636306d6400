"""A study that kills itself, for real, in the middle of its first trial; checkpoints are written after every step.

Arguments: those of the `resattn` command.
"""

import functools
import os
import signal
from typing import Any

import resattn_launcher
from resattn.training import run
from resattn.training.task import Classification


def die_in_trial() -> None:
    original = Classification.training_step

    def training_step(self: Classification, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch, batch_idx)

    Classification.training_step = training_step  # type: ignore[method-assign]
    run.train = functools.partial(run.train, checkpoint_seconds=0)


if __name__ == "__main__":
    die_in_trial()
    resattn_launcher.main()

"""One of the processes of a run, started by torchrun, with something about it that no user could ask for.

Arguments: recipe file, run folder, and "killed": the second process kills itself, for real, the first time round; or
"exact": the network computes in double precision, in which rounding does not grow from step to step; or "elsewhere":
the second process has the home $OTHER_HOME, as if it were another machine.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from resattn.training import job, run
from resattn.training.checkpoints import checkpoint_files
from resattn.training.processes import this_process
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder
from resattn.training.task import Classification


def kill_behind_a_checkpoint(folder: RunFolder) -> None:
    original = Classification.training_step

    def training_step(self: Classification, batch: Any, batch_idx: int) -> Any:
        if batch_idx >= 7 and checkpoint_files(folder.checkpoints):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch, batch_idx)

    Classification.training_step = training_step  # type: ignore[method-assign]


def compute_in_double_precision() -> None:
    start, save = job.starting_network, run.save_weights
    job.starting_network = lambda *arguments: start(*arguments).double()
    run.save_weights = lambda path, network, **others: save(path, network.float(), **others)


if __name__ == "__main__":
    recipe, path, what = sys.argv[1:]
    processes, folder = this_process(), RunFolder(Path(path))
    if what == "exact":
        compute_in_double_precision()
    elif what == "elsewhere":
        if processes.rank == 1:
            os.environ["RESATTN_HOME"] = os.environ["OTHER_HOME"]
    elif processes.rank == 1 and processes.restarts == 0:
        kill_behind_a_checkpoint(folder)
    run.train_or_go_on(Recipe.from_yaml(Path(recipe)), folder, processes, checkpoint_seconds=0.5)

"""Carrying out a comparison: what is missing is trained, what was cut off resumed, what is done left alone."""

import sys
from pathlib import Path

import torch

from resattn.data.locking import locked
from resattn.errors import NotFinite, ResattnError
from resattn.experiments.comparison import Comparison
from resattn.experiments.comparison_report import ComparisonReport, write_report
from resattn.experiments.planned_runs import COMPARISONS, DIVERGED, PlannedRun, planned_runs
from resattn.files import make_folder, whole_text_file
from resattn.training import run
from resattn.training.progress_display import Series
from resattn.training.stopping import StopSignals, TrainingStopped


def compare(comparison: Comparison, *, parent: Path = COMPARISONS) -> ComparisonReport:
    """Carry out the runs of a comparison that are not done, and write its report after each of them.

    A comparison that was stopped or killed goes on where it was, in the middle of a run too. Several processes, or
    machines that share the folder, may carry out one comparison: each run is one process's at a time, and the report
    says which are still others'. Ctrl-C and SIGTERM end it with the run saved; the report then holds the signal, which
    is raised as TrainingStopped where it came before the runs were known, and a report of none would be written.
    Raises ResattnError for data and models that are not there; a loss or an
    output that is not finite ends its run only.
    """
    stopped = None
    runs: list[PlannedRun] = []
    try:
        with StopSignals():
            runs = planned_runs(comparison, parent=parent)
            while _carry_out_one(comparison, runs, parent):
                pass
    except TrainingStopped as signal:
        if not runs:
            raise
        stopped = signal
    except torch.OutOfMemoryError as error:
        raise ResattnError(
            f"the memory of this device is too small: {str(error).splitlines()[0]}",
            "go on where there is more, or give all arms a smaller batch: --set batch_size=64",
        ) from error
    return write_report(comparison, runs, parent=parent, stopped=stopped)


def _carry_out_one(comparison: Comparison, runs: list[PlannedRun], parent: Path) -> bool:
    """Train the first run that is neither done nor another process's; False where there is none."""
    for planned in runs:
        if planned.done:
            planned.require_own()
            continue
        make_folder(planned.folder.path)
        with locked(planned.folder.path, when_busy="leave") as free:
            if not free or planned.done:
                continue
            _train(planned, Series(1 + sum(each.done for each in runs), len(runs), _label(planned)))
        write_report(comparison, runs, parent=parent)
        return True
    return False


def _train(planned: PlannedRun, series: Series) -> None:
    folder = planned.folder
    planned.require_own()
    _say(f"{series}: {folder.path}")
    try:
        if folder.recipe_file.exists():
            result = run.resume(folder, series=series)
        else:
            result = run.train(planned.recipe, folder, series=series)
        _say(f"{series}: top-1 {result.top1:.2%}")
    except NotFinite as error:
        with whole_text_file(folder.path / DIVERGED) as file:
            file.write(error.what + "\n")
        _say(f"{series}: {error.what}")


def _label(planned: PlannedRun) -> str:
    return f"{planned.arm}, seed {planned.seed}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

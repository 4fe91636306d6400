"""What the runs of a comparison say, and the mean and spread of scores over seeds."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from resattn.errors import ResattnError
from resattn.experiments.planned_runs import PlannedRun
from resattn.training.history import read_history
from resattn.training.run_folder import origin

State = Literal["finished", "diverged", "unfinished", "missing"]
SCORES = ("top1", "top5", "loss", "ece")
CURVE = {"step": "step", "seconds": "seconds", "top1": "val_top1", "loss": "val_loss"}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as it stands.

    `scores` (top1, top5 and ece as fractions of 1, loss in nats) are those of the final evaluation, empty where the run
    is not finished. `steps` are those made so far. `curve` has equally long lists, one entry a validation. `minutes` of
    training; `origin` is what the figures depend on beside the recipe: commit, machine, number format, versions;
    `sittings` are those that the run went on with later, where it was stopped and something had changed.
    """

    arm: str
    seed: int
    state: State
    folder: str
    scores: Mapping[str, float]
    steps: int
    planned_steps: int
    images: int
    minutes: float
    curve: Mapping[str, Sequence[float]]
    origin: Mapping[str, Any]
    sittings: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Mean:
    """The mean over seeds and the standard deviation of a single run (n - 1; NaN for one seed)."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Of any number of values; NaN of none."""
        if not values:
            return cls(math.nan, math.nan)
        return cls(statistics.fmean(values), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan)


def run_records(runs: Iterable[PlannedRun]) -> list[RunRecord]:
    """Read the run folders, in the order of the runs; ResattnError, naming the folder, for files that are damaged."""
    records = []
    for planned in runs:
        try:
            records.append(_record(planned))
        except (OSError, ValueError, KeyError) as error:
            raise ResattnError(
                f"the run in {planned.folder.path} cannot be read: {error}",
                "move the folder away and give the command again: the run is trained anew",
            ) from error
    return records


def _record(planned: PlannedRun) -> RunRecord:
    folder = planned.folder
    history = read_history(folder.metrics_file)
    validated = np.isfinite(history["val_top1"]) & np.isfinite(history["val_loss"])
    last = {name: float(column[-1]) if len(column) else 0.0 for name, column in history.items()}
    finished = folder.results_file.exists()
    results = json.loads(folder.results_file.read_text(encoding="utf-8")) if finished else {}
    begun = folder.recipe_file.exists()
    state: State = (
        "diverged" if planned.diverged else "finished" if finished else "unfinished" if begun else "missing"
    )
    environment = folder.environment() if begun else {}
    return RunRecord(
        arm=planned.arm,
        seed=planned.seed,
        state=state,
        folder=folder.path.name,
        scores={name: float(results[name]) for name in SCORES if name in results},
        steps=int(last["step"]),
        planned_steps=planned.recipe.steps or 0,
        images=int(last["images"]),
        minutes=last["seconds"] / 60,
        curve={name: history[column][validated].tolist() for name, column in CURVE.items()},
        origin=origin(environment) if begun else {},
        sittings=[origin(sitting) for sitting in environment.get("sittings", [])],
    )


def finished_of(records: Iterable[RunRecord], arm: str) -> list[RunRecord]:
    """The finished runs of an arm, by seed."""
    return sorted(
        (each for each in records if each.arm == arm and each.state == "finished"), key=lambda each: each.seed
    )

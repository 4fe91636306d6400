"""What the runs of a comparison say: means and spreads over seeds, and differences seed by seed."""

import itertools
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from resattn.experiments.planned_runs import PlannedRun
from resattn.training.history import read_history

State = Literal["finished", "diverged", "unfinished", "missing"]
SCORES = ("top1", "top5", "loss", "ece")
CURVE = {"step": "step", "seconds": "seconds", "top1": "val_top1", "loss": "val_loss"}
# Up to this many seeds all resamples are formed, beyond it some are drawn.
ENUMERATED_SEEDS = 5
RESAMPLES = 20_000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as it stands.

    `scores` (top1, top5 and ece as fractions of 1, loss in nats) are those of the final evaluation, empty where the run
    is not finished. `steps` are those made so far. `curve` has equally long lists, one entry a validation. `minutes` of
    training; `origin` is what the figures depend on beside the recipe: commit, cpu, threads, device, precision.
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
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan)


@dataclass(frozen=True)
class Difference:
    """Top-1 of an arm minus that of another with the same seed, in fractions of 1.

    `low` to `high` is the bootstrap's 95 % interval of the mean (percentiles over resampled seeds; NaN below two
    pairs). Of few seeds it is too narrow: of three it can be no wider than from the smallest difference to the largest.
    `won` of the `pairs` were greater than zero, `tied` were zero.
    """

    arm: str
    against: str
    pairs: int
    won: int
    tied: int
    mean: float
    low: float
    high: float


def run_records(runs: Iterable[PlannedRun]) -> list[RunRecord]:
    """Read the run folders, in the order of the runs."""
    return [_record(planned) for planned in runs]


def _record(planned: PlannedRun) -> RunRecord:
    folder = planned.folder
    history = read_history(folder.metrics_file)
    validated = np.isfinite(history["val_top1"])
    last = {name: float(column[-1]) if len(column) else 0.0 for name, column in history.items()}
    finished = folder.results_file.exists()
    results = json.loads(folder.results_file.read_text(encoding="utf-8")) if finished else {}
    begun = folder.recipe_file.exists()
    state: State = (
        "diverged" if planned.diverged else "finished" if finished else "unfinished" if begun else "missing"
    )
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
        origin=_origin(folder.environment()) if begun else {},
    )


def _origin(environment: Mapping[str, Any]) -> dict[str, Any]:
    names = ("commit", "cpu", "threads", "device", "precision", "versions", "platform")
    return {name: environment.get(name) for name in names}


def finished_of(records: Iterable[RunRecord], arm: str) -> list[RunRecord]:
    """The finished runs of an arm, by seed."""
    return sorted(
        (each for each in records if each.arm == arm and each.state == "finished"), key=lambda each: each.seed
    )


def difference(records: Sequence[RunRecord], arm: str, against: str) -> Difference:
    """Compare two arms on the seeds that both have finished."""
    its = {each.seed: each.scores["top1"] for each in finished_of(records, arm)}
    others = {each.seed: each.scores["top1"] for each in finished_of(records, against)}
    pairs = [its[seed] - others[seed] for seed in sorted(its.keys() & others.keys())]
    low, high = bootstrap_interval(pairs)
    mean = statistics.fmean(pairs) if pairs else math.nan
    won, tied = sum(pair > 0 for pair in pairs), sum(pair == 0 for pair in pairs)
    return Difference(arm, against, len(pairs), won, tied, mean, low, high)


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the mean of `values`; NaN of fewer than two (Efron 1979)."""
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    if count <= ENUMERATED_SEEDS:
        drawn = np.array(list(itertools.product(range(count), repeat=count)))
    else:
        drawn = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    means = np.asarray(values, dtype=np.float64)[drawn].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)

"""What is known about a trial, whoever carried it out: its values, how it ended, and what its run left."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from resattn.experiments.search_space import Value
from resattn.training.history import read_history

# What a trial keeps in the study beside its values.
RUN, PLACE, CURVE, STEPS, MINUTES, NOTE = "run", "place", "curve", "steps", "minutes", "note"
DIVERGED, REPEATS = "diverged", "repeats"
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial.

    `state` is finished, pruned (ended early), diverged (its loss was not finite), repeats (its values were those of a
    finished trial, whose top-1 it has), failed, unfinished (a process works on it, or left it) or waiting. `top1` on
    the held-out images is a fraction of 1; None where there was no validation. `curve` holds the steps and the top-1
    of each validation.
    """

    number: int
    state: str
    top1: float | None
    values: Mapping[str, Value]
    steps: int | None
    minutes: float | None
    curve: tuple[Sequence[float], Sequence[float]]
    run: str
    note: str

    def ending(self) -> str:
        """How the trial ended, in words."""
        reached = "no validation" if self.top1 is None else f"{self.top1:.2%}"
        words = {
            "finished": f"held-out top-1 {reached}",
            "pruned": f"fell behind, ended early at {reached}",
            "repeats": f"the values of {self.note} again, held-out top-1 {reached}",
        }.get(self.state, f"{self.state}: {self.note}" if self.note else self.state)
        if self.steps is None or self.minutes is None:
            return words
        return f"{words}, {self.steps:,} steps, {self.minutes:.1f} min"


def run_name(trial: optuna.Trial | FrozenTrial) -> str:
    """The run folder of a trial; one that is begun again after its machine fell silent keeps its first folder."""
    return str(trial.user_attrs.get(RUN, f"trial-{trial.number:03d}"))


def records(trials: Iterable[FrozenTrial]) -> list[TrialRecord]:
    """Describe trials, in their order."""
    return [_record(trial) for trial in trials]


def _record(trial: FrozenTrial) -> TrialRecord:
    attributes = trial.user_attrs
    state = STATES[trial.state]
    if attributes.get(DIVERGED):
        state = "diverged"
    elif REPEATS in attributes:
        state = "repeats"
    known = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    steps, top1 = attributes.get(CURVE, ((), ()))
    return TrialRecord(
        number=trial.number,
        state=state,
        top1=trial.value if known else None,
        values=dict(trial.params),
        steps=attributes.get(STEPS),
        minutes=attributes.get(MINUTES),
        curve=(steps, top1),
        run=run_name(trial),
        note=str(attributes.get(REPEATS, attributes.get(NOTE, ""))),
    )


def best_first(rows: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The finished trials, best first; of equals the one that came first."""
    finished = [row for row in rows if row.state == "finished" and row.top1 is not None]
    return sorted(finished, key=lambda row: (-(row.top1 or 0.0), row.number))


def findings(metrics: Path) -> dict[str, Any]:
    """What a trial keeps of its run's metrics.csv: steps, minutes of training, the curve; empty without a step."""
    history = read_history(metrics)
    if not len(history["step"]):
        return {}
    validated = np.isfinite(history["val_top1"])
    return {
        STEPS: int(history["step"][-1]),
        MINUTES: round(float(history["seconds"][-1]) / 60, 3),
        CURVE: [history[name][validated].tolist() for name in ("step", "val_top1")],
    }

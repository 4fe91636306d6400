"""A study over fields of a recipe: one run a trial, judged on held-out images, ended early where it falls behind."""

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
from optuna.trial import TrialState

from resattn.data.packed import open_split
from resattn.errors import CannotWrite, NotFinite, ResattnError
from resattn.experiments.plan import Plan
from resattn.experiments.search_space import SearchSpace, in_words
from resattn.experiments.steps_in_time import in_format, steps_in_time
from resattn.experiments.study_report import StudyReport, few_images, write_report
from resattn.experiments.study_storage import StudyStorage, finished, open_study
from resattn.experiments.trial_record import (
    DIVERGED,
    NOTE,
    REPEATS,
    best_first,
    findings,
    records,
    run_name,
)
from resattn.models.registry import build_described
from resattn.training import run
from resattn.training.job import DEFAULT_TIME
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder
from resattn.training.stopping import Listener, RunEnded, StopSignals, TrainingStopped

FAILURES_IN_A_ROW = 3
# What is behind for most of a run and may lead at its end: small images at first, unmixed ones last, averaged weights.
ACT_LATE = ("start_scale", "size_ramp", "averaging", "augmentation.mix_until")


def tune(plan: Plan) -> StudyReport:
    """Carry out trials until the plan's number of them is finished, then write table, figure and best recipe.

    A study that was stopped or killed goes on where it was, in the middle of a trial too; several processes may carry
    out one study at once. Ctrl-C and SIGTERM end it with the trial's run saved; the report then holds the signal.
    Raises ResattnError for data, models and storages that are not there, a study of this name that is another, and
    three trials in a row that failed for other reasons than a loss that is not finite.
    """
    _check_parts(plan.space)
    if note := few_images(plan.space.example):
        _say(f"note: {note}")
    late = [field for field in plan.space.domains if field in ACT_LATE]
    if late and plan.pruner != "none":
        act = "acts" if len(late) == 1 else "act"
        _say(
            f"note: {' and '.join(late)} {act} late in a run, and trials that are ended early say little of that; "
            "--pruner none lets all come to their end"
        )
    with open_study(plan) as study:
        stopped = None
        try:
            _carry_out(plan, study)
        except TrainingStopped as signal:
            stopped = signal
        except ResattnError:
            write_report(plan, study)
            raise
        return write_report(plan, study, stopped=stopped)


def _check_parts(space: SearchSpace) -> None:
    """Find out before the first trial whether all data sets are prepared and all networks can be built."""
    for recipe in space.corners():
        split = open_split(recipe.data)
        with torch.device("meta"):
            build_described(recipe.model, num_classes=len(split.class_ids), options=recipe.model_options)


def _carry_out(plan: Plan, study: StudyStorage) -> None:
    began = time.monotonic()
    failures = 0
    with StopSignals() as signals:
        while plan.time_limit is None or time.monotonic() - began < plan.time_limit:
            with ExitStack() as held:
                with signals.held():
                    trial = study.claim(plan.trials, held)
                if trial is None:
                    return
                _say(f"{run_name(trial)}: {in_words(trial.params)}")
                failure = _carry_out_trial(study, trial, signals)
            _say(_told(plan, study, trial.number))
            failures = failures + 1 if failure else 0
            if failure and failures == FAILURES_IN_A_ROW:
                raise ResattnError(
                    f"{failures} trials in a row failed; the last: {failure.what}", failure.mend
                )


@dataclass(frozen=True)
class _Outcome:
    """What a trial's run came to, in Optuna's words."""

    state: TrialState
    value: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    failure: ResattnError | None = None


def _carry_out_trial(study: StudyStorage, trial: optuna.Trial, signals: StopSignals) -> ResattnError | None:
    """Train, and write into the study what came of it; the reason where the trial failed."""
    folder = RunFolder(study.folder / run_name(trial))
    try:
        outcome = _outcome(study, trial, folder)
        with signals.held():
            for name, value in {**outcome.attributes, **findings(folder.metrics_file)}.items():
                trial.set_user_attr(name, value)
            study.optuna_study.tell(trial, outcome.value, state=outcome.state)
    except optuna.exceptions.UpdateFinishedTrialError:
        _say(f"{folder.path.name}: its machine was silent for too long; another one begins it again")
        return None
    except CannotWrite:
        raise  # the trial stays open, and is gone on with where there is room again
    except Exception as error:
        trial.set_user_attr(NOTE, repr(error))
        study.optuna_study.tell(trial, state=TrialState.FAIL)
        raise
    return outcome.failure


def _outcome(study: StudyStorage, trial: optuna.Trial, folder: RunFolder) -> _Outcome:
    twin = _twin(study, trial)
    if twin is not None:
        return _Outcome(TrialState.COMPLETE, twin.value, {REPEATS: run_name(twin)})
    try:
        return _Outcome(TrialState.COMPLETE, _train(study, trial, folder))
    except RunEnded:
        return _Outcome(TrialState.PRUNED)
    except NotFinite as error:
        # Not a failure, of which Optuna would learn nothing: that these values do not train is worth knowing.
        return _Outcome(TrialState.PRUNED, attributes={DIVERGED: True, NOTE: error.what})
    except CannotWrite:
        raise
    except (ResattnError, torch.OutOfMemoryError) as error:
        failure = error if isinstance(error, ResattnError) else ResattnError(str(error).splitlines()[0])
        return _Outcome(TrialState.FAIL, attributes={NOTE: failure.what}, failure=failure)


def _twin(study: StudyStorage, trial: optuna.Trial) -> optuna.trial.FrozenTrial | None:
    """A finished trial of the same values: a run of it would make the same steps and end in the same weights."""
    complete = (other for other in study.trials() if other.state == TrialState.COMPLETE)
    return next((other for other in complete if other.params == trial.params), None)


def _train(study: StudyStorage, trial: optuna.Trial, folder: RunFolder) -> float:
    """Top-1 on the held-out images at the end of the trial's run, which is begun, gone on with, or only read."""
    if not folder.results_file.exists():
        before = study.trials()[trial.number].intermediate_values
        listeners = [_ReportValidations(trial, reported=set(before))]
        if folder.recipe_file.exists():
            run.resume(folder, listeners=listeners)
        else:
            run.train(_with_steps(study, trial), folder, listeners=listeners)
    return float(json.loads(folder.results_file.read_text(encoding="utf-8"))["top1"])


def _with_steps(study: StudyStorage, trial: optuna.Trial) -> Recipe:
    """The trial's recipe; of a time, with the steps that fit into it.

    They are measured in turns with those of one recipe of the study, so that a trial's steps do not depend on what else
    the machine did just then, nor on which machine it was.
    """
    recipe = study.space.recipe(trial.params)
    if recipe.steps is not None or recipe.epochs is not None:
        return recipe
    time = recipe.time or DEFAULT_TIME
    name = run_name(trial)
    settled = steps_in_time(time, {"the study's first": study.space.example, name: recipe}, study.folder)
    return in_format(recipe.replace(time=time, steps=settled.steps[name]), settled.precision)


class _ReportValidations(Listener):
    """Tells the study each validation's top-1, by the number of the validation, and ends runs that fall behind.

    `reported` are the validations that a process told which had the trial before.
    """

    def __init__(self, trial: optuna.Trial, *, reported: set[int]) -> None:
        self.trial = trial
        self.reported = reported
        self.validations = 0

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from a checkpoint."""
        self.validations = state_dict["validations"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report; the run ends after its next step where the study's pruner says so."""
        self.validations += 1
        if self.validations not in self.reported:
            self.trial.report(pl_module.val_metrics["val_top1"], step=self.validations)
        if self.trial.should_prune():
            self.ending = "it fell behind the other trials"


def _told(plan: Plan, study: StudyStorage, number: int) -> str:
    """One line on a trial that ended."""
    trials = study.trials()
    rows = records(trials)
    best = best_first(rows)
    leader = f", best {best[0].top1:.2%} ({best[0].run})" if best else ""
    return (
        f"{rows[number].run}: {rows[number].ending()}; {len(finished(trials))} of {plan.trials} done{leader}"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

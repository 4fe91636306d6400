"""What a study leaves for people: trials.csv, best.yaml, study.png."""

import csv
import math
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from resattn import figures
from resattn.data.held_out import HELD_OUT
from resattn.data.locking import locked
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.experiments.plan import Plan
from resattn.experiments.search_space import short_names, shown
from resattn.experiments.study_storage import StudyStorage
from resattn.experiments.trial_record import TrialRecord, best_first, records
from resattn.files import whole_text_file
from resattn.training.recipe import Recipe
from resattn.training.stopping import TrainingStopped

HIGHLIGHTED = 3
FEWEST_FOR_IMPORTANCE = 4
# Held-out images below which a difference of a point or two says nothing.
FEWEST_TO_JUDGE = 500


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """A study as it stands: its trials by number, the finished ones best first, and where its files lie.

    `own` is the finished trial of the recipe's own values, where there is one; `best_recipe` is None where no trial
    has finished; `stopped` the signal that ended this process's part.
    """

    name: str
    folder: Path
    wanted: int
    fields: tuple[str, ...]
    trials: list[TrialRecord]
    best: list[TrialRecord]
    own: TrialRecord | None
    best_recipe: Path | None
    stopped: TrainingStopped | None

    @property
    def summary(self) -> str:
        """How many trials ended how."""
        counts = Counter(trial.state for trial in self.trials)
        return ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "no trials"


def write_report(plan: Plan, study: StudyStorage, *, stopped: TrainingStopped | None = None) -> StudyReport:
    """Write the files of a study as it stands into its folder, each whole or not at all.

    One process at a time, so that none writes what it read before another did. Raises ResattnError where the disk
    refuses.
    """
    with locked(plan.folder):
        return _write_as_it_stands(plan, study, stopped)


def _write_as_it_stands(plan: Plan, study: StudyStorage, stopped: TrainingStopped | None) -> StudyReport:
    rows = records(study.trials())
    best = best_first(rows)
    report = StudyReport(
        name=plan.study,
        folder=plan.folder,
        wanted=plan.trials,
        fields=tuple(plan.space.domains),
        trials=rows,
        best=best,
        own=next((row for row in best if row.values == plan.space.own), None),
        best_recipe=plan.folder / "best.yaml" if best else None,
        stopped=stopped,
    )
    _write_table(report, plan.folder / "trials.csv")
    if report.best_recipe:
        recipe = plan.space.recipe(best[0].values).replace(validate_on="val")
        with whole_text_file(report.best_recipe) as file:
            file.write(f"# The best of study {plan.study}: {best[0].run}, {best[0].ending()}.\n")
            file.write(recipe.to_yaml())
    drawn = best[:HIGHLIGHTED]
    if report.own and report.own not in drawn:
        drawn.append(report.own)
    figure = figures.study_overview(
        _importances(study.optuna_study),
        [(np.asarray(row.curve[0]), np.asarray(row.curve[1])) for row in rows],
        [row.number for row in drawn],
        [_key(row, own=row is report.own) for row in drawn],
        title=f"Study {plan.study}",
        subtitle=f"{plan.space.base.model} on {plan.space.base.data}, {report.summary}; {_judges(plan.space.example)}",
    )
    figures.save(figure, plan.folder / "study.png")
    return report


def few_images(recipe: Recipe) -> str:
    """What a study has to know of held-out images that are too few to tell trials apart; empty where they are not."""
    images = _held_out(recipe)
    if not images:
        raise ResattnError(
            f"no class of {recipe.data} has two images to train on: none can be held out, to judge trials on",
            "prepare the data with more images",
        )
    if images >= FEWEST_TO_JUDGE:
        return ""
    return (
        f"trials are judged on {images} held-out images, of which one is {100 / images:.1f} points; the standard error "
        f"of an accuracy of 80 % is {_chance(images):.1f}. Compare the best with `resattn compare` and several seeds"
    )


def _judges(recipe: Recipe) -> str:
    images = _held_out(recipe)
    return f"judged on {images:,} held-out images" + (
        f" (± {_chance(images):.1f} points by chance)" if images < FEWEST_TO_JUDGE else ""
    )


def _held_out(recipe: Recipe) -> int:
    return len(open_split(recipe.data, HELD_OUT).images)


def _chance(images: int) -> float:
    """The standard error of an accuracy of 80 %, in points."""
    return 100 * math.sqrt(0.8 * 0.2 / images)


def _key(row: TrialRecord, *, own: bool) -> dict[str, str]:
    names = short_names(row.values)
    values = {names[field]: shown(value) for field, value in row.values.items()}
    trial = f"{row.number} (recipe)" if own else str(row.number)
    return {"trial": trial, "top-1": f"{row.top1:.2%}", **values}


def _write_table(report: StudyReport, path: Path) -> None:
    with whole_text_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "top1", *report.fields, "steps", "minutes", "run", "note"])
        for row in report.trials:
            # Numbers in full, as they were tried; null apart from a field that a trial did not come to.
            values = [
                "null" if row.values.get(name, "") is None else row.values.get(name) for name in report.fields
            ]
            writer.writerow(
                [row.number, row.state, row.top1, *values, row.steps, row.minutes, row.run, row.note]
            )


def _importances(study: optuna.Study) -> dict[str, float]:
    """The share of each field in what tells the best trials from the others, by PED-ANOVA (Watanabe et al. 2023).

    Empty where too few trials have finished, or all ended alike.
    """
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < FEWEST_FOR_IMPORTANCE or len({trial.value for trial in complete}) == 1:
        return {}
    # Of a small study more than the usual tenth: the method wants five trials to look at.
    share = min(0.5, max(0.1, 5 / len(complete)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    names = short_names(found)
    return {names[field]: value for field, value in found.items()}

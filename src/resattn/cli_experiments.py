"""Verbs of the `resattn` command that carry out many runs: arguments in, one call, a printed answer."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from cyclopts import Parameter

from resattn.errors import ResattnError
from resattn.experiments.plan import make_plan
from resattn.tables import console, print_comparison, print_study
from resattn.training.recipe import Recipe

if TYPE_CHECKING:
    from resattn.training.stopping import TrainingStopped


def tune(
    study: str,
    /,
    *,
    search: Annotated[list[str], Parameter(negative="")],
    trials: int,
    time_limit: str | None = None,
    storage: str | None = None,
    pruner: Literal["none", "median", "hyperband"] = "median",
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),  # noqa: B008
    recipe_file: Annotated[str | None, Parameter(name="--recipe")] = None,
) -> None:
    """Search over fields of a recipe: a run for each trial, judged on 5 % of the training images that it holds out.

    The first trial has the recipe's own values, those of them that lie in the search. The same command goes on with a
    study that was stopped, and several at once share its trials.

    Parameters
    ----------
    study
        The study's name; all it writes lies in runs/tune/STUDY.
    search
        FIELD=SPEC, once or more. SPEC is a,b,c (choices) or LOW:HIGH, int:LOW:HIGH or log:LOW:HIGH (ranges), such as
        optimization.lr=log:0.005:0.08, model_options.mask_width=16,32 or model_options.masked_stages=1,1+2,2+3 (lists).
    trials
        Finished trials the study has in the end, those of earlier commands counted.
    time_limit
        Begin no further trial after this time, such as 2h.
    storage
        Database that machines share, such as postgresql://host/name or sqlite:///study.db. It is recorded in the run
        folders: keep a password out of it (~/.pgpass). A journal in the study's folder where left out.
    pruner
        What ends trials early: median (from the middle of a run on, worse at a validation than half of the finished
        ones), hyperband (give it more --validations), or none, for fields that act late in a run.
    recipe_file
        A recipe (YAML), or the name of one that ships with resattn; options given beside it have the last word.
    """
    del recipe_file  # read by `recipe_options.fill_from_recipe`, before the options were parsed
    plan = make_plan(
        study, recipe, search, trials=trials, time_limit=time_limit, storage=storage, pruner=pruner
    )
    try:
        from resattn.experiments import tuning
    except ModuleNotFoundError as error:
        raise ResattnError(
            f"tuning needs Optuna, and {error.name} is not installed", "pip install 'resattn[tune]'"
        ) from error
    report = tuning.tune(plan)
    print_study(report)
    if report.stopped:
        _leave(report.stopped)


def compare(
    comparison: str,
    /,
    *,
    time_per_run: str | None = None,
    seeds: int | None = None,
    arms: Annotated[list[str], Parameter(negative="")] = [],  # noqa: B006
    set_fields: Annotated[list[str], Parameter(name="--set", negative="")] = [],  # noqa: B006
    recipe_file: Annotated[str | None, Parameter(name="--recipe")] = None,
    publish: Path | None = None,
) -> None:
    """Answer a question by training: arms that differ in named fields, with several seeds, in a table with error bars.

    The same command goes on with a comparison that was stopped, and several at once share its runs.

    Parameters
    ----------
    comparison
        A comparison file (YAML), or the name of one that ships with resattn. What it writes lies in runs/compare.
    time_per_run
        Training time of a run, such as 10m, instead of the file's.
    seeds
        Runs of each arm, instead of the file's.
    arms
        Arms to train beside the control, once or more; all of them where left out.
    set_fields
        FIELD=VALUE, once or more: changes the recipe that all arms begin from, such as data=shapes or batch_size=64.
    recipe_file
        Ask the question by another recipe, such as paper-cifar, in place of all that the file says but its networks.
    publish
        Also put table and figures into this folder of documents, and write its results.md anew; refused while runs are
        left, those of other processes too.
    """
    from resattn.experiments import comparing, publishing
    from resattn.experiments.comparison import read_comparison
    from resattn.experiments.comparison_file import find_comparison
    from resattn.training.stopping import TrainingStopped

    plan = read_comparison(
        find_comparison(comparison),
        recipe=recipe_file,
        time=time_per_run,
        seeds=seeds,
        fields=set_fields,
        arms=arms,
    )
    try:
        report = comparing.compare(plan)
    except TrainingStopped as stopped:
        _leave(stopped)
    print_comparison(report)
    if report.stopped:
        _leave(report.stopped)
    if publish:
        console.print(f"Published in [bold]{publishing.publish(report.folder, publish)}[/bold].")


def _leave(stopped: "TrainingStopped") -> NoReturn:
    command = shlex.join(["resattn", *sys.argv[1:]])
    print(f"stopped by {stopped}; go on with: {command}", file=sys.stderr)
    sys.exit(stopped.exit_status)

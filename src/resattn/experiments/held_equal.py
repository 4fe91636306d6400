"""How many steps each arm of a comparison trains for, so that what it holds equal is equal."""

import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resattn.data.locking import locked
from resattn.experiments.comparison import Comparison
from resattn.experiments.network_cost import training_cost
from resattn.experiments.recipe_key import recipe_key
from resattn.files import whole_text_file
from resattn.training.budget import PROBES, Probe, measure_in_turns, steps_for_epochs
from resattn.training.fine_tuning import starting_point
from resattn.training.job import training_split, without_steps
from resattn.training.recipe import Recipe, parse_duration
from resattn.training.run_folder import RunFolder, environment

STEPS_IN_TIME = "steps-in-time.json"


def arm_steps(comparison: Comparison, pool: Path) -> dict[str, int]:
    """By arm, the steps of its runs.

    Steps that fit into a time are measured, once, and kept beside the runs in the folder `pool`. Raises ResattnError
    for data and models that are not there.
    """
    # Counted whatever is held equal: it finds a model that cannot be built before anything is measured or trained.
    costs = {arm: training_cost(recipe) for arm, recipe in comparison.recipes.items()}
    if comparison.equal == "time":
        return _steps_in_time(comparison, comparison.recipes, pool)
    control = comparison.recipes[comparison.control]
    if comparison.time is None:
        steps = _counted_steps(control.replace(**comparison.length))
    else:
        steps = _steps_in_time(comparison, {comparison.control: control}, pool)[comparison.control]
    if comparison.equal == "steps":
        return dict.fromkeys(comparison.recipes, steps)
    whole = steps * costs[comparison.control]
    return {arm: max(1, round(whole / cost)) for arm, cost in costs.items()}


def measured_on(comparison: Comparison, pool: Path) -> str:
    """The machine that the steps of the control were measured on; empty where they were not measured."""
    if comparison.time is None:
        return ""
    known = _known(pool).get(_key(comparison.recipes[comparison.control], comparison))
    return str(known["machine"]) if known else ""


def _counted_steps(recipe: Recipe) -> int:
    return recipe.steps or steps_for_epochs(recipe, len(training_split(recipe).images))


def _steps_in_time(comparison: Comparison, arms: Mapping[str, Recipe], pool: Path) -> dict[str, int]:
    """By arm, the steps that fit into the comparison's time."""
    keys = {arm: _key(recipe, comparison) for arm, recipe in arms.items()}
    with locked(pool):
        known = _known(pool)
        settled = {arm: known[key]["steps"] for arm, key in keys.items() if key in known}
        if len(settled) < len(arms):
            measured, machine = _measured_steps(comparison, arms, settled)
            known.update({keys[arm]: {"steps": steps, "machine": machine} for arm, steps in measured.items()})
            with whole_text_file(pool / STEPS_IN_TIME) as file:
                file.write(json.dumps(known, indent=2) + "\n")
            told = ", ".join(f"{steps:,} of {arm}" for arm, steps in measured.items())
            print(f"steps that fit into {comparison.time}: {told}", file=sys.stderr, flush=True)
    return {arm: known[key]["steps"] for arm, key in keys.items()}


def _measured_steps(
    comparison: Comparison, arms: Mapping[str, Recipe], settled: Mapping[str, int]
) -> tuple[dict[str, int], str]:
    """The steps of the arms that are not settled, all measured in turns, and the machine they were measured on.

    Relative to an arm that is settled where there is one, from whatever machine; else the time is this machine's.
    """
    assert comparison.time is not None
    time = parse_duration(comparison.time)
    missing = [arm for arm in arms if arm not in settled]
    anchor = next(iter(settled), missing[0])
    seconds, machine = _seconds_a_step(
        {arm: arms[arm] for arm in dict.fromkeys([anchor, *missing])}, budget=time
    )
    if anchor in settled:
        time = settled[anchor] * seconds[anchor]
    return {arm: max(1, round(time / seconds[arm])) for arm in missing}, machine


def _known(pool: Path) -> dict[str, dict[str, Any]]:
    """By the key of a recipe that has a time, the steps that fit into it, and where that was measured."""
    path = pool / STEPS_IN_TIME
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _key(recipe: Recipe, comparison: Comparison) -> str:
    return recipe_key(recipe.replace(time=comparison.time))


def _seconds_a_step(arms: Mapping[str, Recipe], *, budget: float) -> tuple[dict[str, float], str]:
    """By arm, seconds a step, so that their ratios are the medians of those within a turn; and the machine."""
    jobs = [without_steps(recipe, RunFolder(Path()), starting_point(recipe)[1]) for recipe in arms.values()]
    probes = [Probe(job.network, job.recipe, job.batches(PROBES), job.execution) for job in jobs]
    turns = measure_in_turns(probes, budget=budget)
    first = statistics.median(turn[0] for turn in turns)
    seconds = {
        arm: first * statistics.median(turn[number] / turn[0] for turn in turns)
        for number, arm in enumerate(arms)
    }
    here = environment(jobs[0].execution)
    return seconds, f"{here['cpu']}, {here['threads']} threads, {here['device']}"

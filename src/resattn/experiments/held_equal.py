"""How many steps each arm of a comparison trains for, so that what it holds equal is equal."""

import json
import secrets
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from resattn.data.locking import locked
from resattn.data.packed import open_split
from resattn.experiments.comparison import Comparison
from resattn.experiments.network_cost import training_cost
from resattn.experiments.recipe_key import recipe_key
from resattn.files import make_folder, whole_text_file
from resattn.hardware import Precision, choose_execution
from resattn.training.budget import PROBES, Probe, measure_in_turns, steps_for_epochs
from resattn.training.fine_tuning import starting_point
from resattn.training.job import training_split, without_steps
from resattn.training.recipe import Recipe, parse_duration
from resattn.training.run_folder import RunFolder, environment

STEPS_IN_TIME = "steps-in-time.json"


class Settled(NamedTuple):
    """What is fixed before the first run: the steps of each arm, and the number format where steps were measured."""

    steps: dict[str, int]
    precision: Precision | Literal["auto"]


def settle(comparison: Comparison, pool: Path) -> Settled:
    """The steps of each arm's runs, and the format that they compute in unless their recipe says one.

    Steps that fit into a time are measured, once, and kept beside the runs in the folder `pool`. Raises ResattnError
    for data and models that are not there.
    """
    if comparison.equal == "time":
        return _steps_in_time(comparison, comparison.recipes, pool)
    control = comparison.recipes[comparison.control]
    if comparison.time is None:
        measured = Settled({comparison.control: _counted_steps(control.replace(**comparison.length))}, "auto")
    else:
        measured = _steps_in_time(comparison, {comparison.control: control}, pool)
    steps = measured.steps[comparison.control]
    if comparison.equal == "steps":
        return Settled(dict.fromkeys(comparison.recipes, steps), measured.precision)
    costs = {arm: training_cost(recipe) for arm, recipe in comparison.recipes.items()}
    whole = steps * costs[comparison.control]
    return Settled({arm: max(1, round(whole / cost)) for arm, cost in costs.items()}, measured.precision)


def measured_on(comparison: Comparison, pool: Path) -> str:
    """The machine that the steps of the control were measured on; empty where they were not measured."""
    if comparison.time is None:
        return ""
    known = _known(pool).get(_key(comparison.recipes[comparison.control], comparison))
    return str(known["machine"]) if known else ""


def measured_apart(comparison: Comparison, pool: Path) -> list[str]:
    """Arms whose steps were not measured in turns with the control's, nor with those of an arm that was."""
    known = _known(pool)
    turns = {
        arm: known.get(_key(recipe, comparison), {}).get("turns")
        for arm, recipe in comparison.recipes.items()
    }
    of_control = turns[comparison.control]
    # None: of a version that did not write it down.
    apart = [arm for arm, its in turns.items() if None not in (its, of_control) and its != of_control]
    return apart if comparison.equal == "time" else []


def _counted_steps(recipe: Recipe) -> int:
    return recipe.steps or steps_for_epochs(recipe, len(training_split(recipe).images))


def _steps_in_time(comparison: Comparison, arms: Mapping[str, Recipe], pool: Path) -> Settled:
    """By arm, the steps that fit into the comparison's time."""
    keys = {arm: _key(recipe, comparison) for arm, recipe in arms.items()}
    sides = {arm: open_split(recipe.data).images.shape[1] for arm, recipe in arms.items()}
    make_folder(pool)
    with locked(pool):
        known = _known(pool)
        settled = {
            arm: known[key]
            for arm, key in keys.items()
            # A data set may have been prepared anew, at another size, under the same name.
            if key in known and known[key].get("side", sides[arm]) == sides[arm]
        }
        if len(settled) < len(arms):
            measured = _measured_steps(comparison, arms, settled)
            known.update({keys[arm]: {**entry, "side": sides[arm]} for arm, entry in measured.items()})
            with whole_text_file(pool / STEPS_IN_TIME) as file:
                file.write(json.dumps(known, indent=2) + "\n")
            told = ", ".join(f"{entry['steps']:,} of {arm}" for arm, entry in measured.items())
            print(f"steps that fit into {comparison.time}: {told}", file=sys.stderr, flush=True)
    entries = [known[key] for key in keys.values()]
    return Settled(
        {arm: entry["steps"] for arm, entry in zip(keys, entries, strict=True)}, _precision(entries)
    )


def _precision(entries: Iterable[Mapping[str, Any]]) -> Any:
    """The number format that steps were measured in; auto where none was recorded."""
    return next((entry["precision"] for entry in entries if "precision" in entry), "auto")


def _measured_steps(
    comparison: Comparison, arms: Mapping[str, Recipe], settled: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The steps of the arms that are not settled, all measured in turns, and how: on which machine, in which format.

    Relative to an arm that is settled where there is one, from whatever machine; else the time is this machine's.
    """
    assert comparison.time is not None
    time = parse_duration(comparison.time)
    missing = [arm for arm in arms if arm not in settled]
    anchor = next(iter(settled), missing[0])
    # Chosen once: near the border each arm, and each run later, could find another one the faster.
    execution = choose_execution(_precision(settled.values()))
    seconds, machine = _seconds_a_step(
        {arm: arms[arm] for arm in dict.fromkeys([anchor, *missing])}, execution.precision, budget=time
    )
    if anchor in settled:
        time = settled[anchor]["steps"] * seconds[anchor]
    turns = settled[anchor].get("turns") if anchor in settled else secrets.token_hex(4)
    how = {"machine": machine, "precision": execution.precision, "turns": turns}
    return {arm: {"steps": max(1, round(time / seconds[arm])), **how} for arm in missing}


def _known(pool: Path) -> dict[str, dict[str, Any]]:
    """By the key of a recipe that has a time, the steps that fit into it, and where that was measured."""
    path = pool / STEPS_IN_TIME
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _key(recipe: Recipe, comparison: Comparison) -> str:
    return recipe_key(recipe.replace(time=comparison.time))


def in_format(recipe: Recipe, precision: Precision | Literal["auto"]) -> Recipe:
    """The recipe, computed in this number format unless it says another."""
    return recipe.replace(precision=precision) if recipe.precision == "auto" else recipe


def _seconds_a_step(
    arms: Mapping[str, Recipe], precision: Precision, *, budget: float
) -> tuple[dict[str, float], str]:
    """By arm, seconds a step, so that their ratios are the medians of those within a turn; and the machine."""
    jobs = [
        without_steps(in_format(recipe, precision), RunFolder(Path()), starting_point(recipe)[1])
        for recipe in arms.values()
    ]
    probes = [Probe(job.network, job.recipe, job.batches(PROBES), job.execution) for job in jobs]
    turns = measure_in_turns(probes, budget=budget)
    first = statistics.median(turn[0] for turn in turns)
    seconds = {
        arm: first * statistics.median(turn[number] / turn[0] for turn in turns)
        for number, arm in enumerate(arms)
    }
    here = environment(jobs[0].execution)
    return seconds, f"{here['cpu']}, {here['threads']} threads, {here['device']}"

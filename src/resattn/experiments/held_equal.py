"""How many steps each arm of a comparison trains for, so that what it holds equal is equal."""

from pathlib import Path

from resattn.experiments.comparison import Comparison
from resattn.experiments.network_cost import training_cost
from resattn.experiments.steps_in_time import Settled, known_steps, steps_in_time, time_key
from resattn.training.budget import steps_for_epochs
from resattn.training.job import training_split
from resattn.training.recipe import Recipe


def settle(comparison: Comparison, pool: Path) -> Settled:
    """The steps of each arm's runs, and the format that they compute in unless their recipe says one.

    Steps that fit into a time are measured, once, and kept beside the runs in the folder `pool`. Raises ResattnError
    for data and models that are not there.
    """
    if comparison.equal == "time":
        assert comparison.time is not None
        return steps_in_time(comparison.time, comparison.recipes, pool)
    control = comparison.recipes[comparison.control]
    if comparison.time is None:
        measured = Settled({comparison.control: _counted_steps(control.replace(**comparison.length))}, "auto")
    else:
        measured = steps_in_time(comparison.time, {comparison.control: control}, pool)
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
    known = known_steps(pool).get(time_key(comparison.recipes[comparison.control], comparison.time))
    return str(known["machine"]) if known else ""


def measured_apart(comparison: Comparison, pool: Path) -> list[str]:
    """Arms whose steps were not measured in turns with the control's, nor with those of an arm that was."""
    if comparison.equal != "time" or comparison.time is None:
        return []
    known = known_steps(pool)
    turns = {
        arm: known.get(time_key(recipe, comparison.time), {}).get("turns")
        for arm, recipe in comparison.recipes.items()
    }
    of_control = turns[comparison.control]
    # None: of a version that did not write it down.
    return [arm for arm, its in turns.items() if None not in (its, of_control) and its != of_control]


def measured_elsewhere(comparison: Comparison, pool: Path) -> dict[str, str]:
    """By arm, the machine on which its steps were measured in turns with the control's, where that is another one."""
    if comparison.equal != "time" or comparison.time is None:
        return {}
    known = known_steps(pool)
    entries = {
        arm: known.get(time_key(recipe, comparison.time), {}) for arm, recipe in comparison.recipes.items()
    }
    of_control = entries[comparison.control]
    return {
        arm: entry["machine"]
        for arm, entry in entries.items()
        if "machine" in entry
        and entry.get("turns") == of_control.get("turns")
        and entry["machine"] != of_control.get("machine")
    }


def _counted_steps(recipe: Recipe) -> int:
    return recipe.steps or steps_for_epochs(recipe, len(training_split(recipe).images))

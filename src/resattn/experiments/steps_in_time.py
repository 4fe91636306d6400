"""How many steps of each of several recipes fit into a time: measured in turns, once, and kept in a file."""

import json
import secrets
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from resattn.data.locking import locked
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.experiments.recipe_key import recipe_key
from resattn.files import make_folder, whole_text_file
from resattn.hardware import Precision, choose_execution
from resattn.training.budget import PROBES, Probe, measure_in_turns
from resattn.training.fine_tuning import starting_point
from resattn.training.job import without_steps
from resattn.training.recipe import RUN_LENGTHS, Recipe, parse_duration
from resattn.training.run_folder import RunFolder, environment

STEPS_IN_TIME = "steps-in-time.json"


class Settled(NamedTuple):
    """What is fixed before the first run: the steps of each arm, and the number format where steps were measured."""

    steps: dict[str, int]
    precision: Precision | Literal["auto"]


def steps_in_time(time: str, arms: Mapping[str, Recipe], pool: Path) -> Settled:
    """By arm, the steps that fit into `time`, which is written as in recipes; their ratios are those of one machine.

    What is not known is measured, in turns and beside an arm that is known, and kept in the folder `pool`. Raises
    ResattnError for data and models that are not there.
    """
    keys = {arm: time_key(recipe, time) for arm, recipe in arms.items()}
    sides = {arm: open_split(recipe.data).images.shape[1] for arm, recipe in arms.items()}
    make_folder(pool)
    with locked(pool):
        known = known_steps(pool)
        settled = {
            arm: known[key]
            for arm, key in keys.items()
            # A data set may have been prepared anew, at another size, under the same name.
            if key in known and known[key].get("side", sides[arm]) == sides[arm]
        }
        if len(settled) < len(arms):
            measured = _measured_steps(parse_duration(time), arms, settled)
            known.update({keys[arm]: {**entry, "side": sides[arm]} for arm, entry in measured.items()})
            with whole_text_file(pool / STEPS_IN_TIME) as file:
                file.write(json.dumps(known, indent=2) + "\n")
            told = ", ".join(f"{entry['steps']:,} of {arm}" for arm, entry in measured.items())
            print(f"steps that fit into {time}: {told}", file=sys.stderr, flush=True)
    entries = [known[key] for key in keys.values()]
    return Settled(
        {arm: entry["steps"] for arm, entry in zip(keys, entries, strict=True)}, _precision(entries)
    )


def _precision(entries: Iterable[Mapping[str, Any]]) -> Any:
    """The number format that steps were measured in; auto where none was recorded."""
    return next((entry["precision"] for entry in entries if "precision" in entry), "auto")


def _measured_steps(
    time: float, arms: Mapping[str, Recipe], settled: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The steps of the arms that are not settled, all measured in turns, and how: on which machine, in which format.

    Relative to an arm that is settled where there is one, from whatever machine; else the time is this machine's.
    """
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


def known_steps(pool: Path) -> dict[str, dict[str, Any]]:
    """By the key of a recipe that has a time, the steps that fit into it, and where that was measured.

    Raises ResattnError where that file is damaged.
    """
    path = pool / STEPS_IN_TIME
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ResattnError(f"{path} cannot be read: {error}", "move it away to measure steps anew") from error


def time_key(recipe: Recipe, time: str) -> str:
    """The key of a recipe trained for `time`."""
    return recipe_key(recipe.replace(**{**dict.fromkeys(RUN_LENGTHS), "time": time}))


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

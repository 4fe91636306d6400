"""The runs a comparison consists of: each arm with each seed, its length settled, its folder named by its recipe."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from resattn.data.locking import locked
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.experiments.comparison import Comparison
from resattn.files import whole_text_file
from resattn.models.cost import multiply_accumulates, parameters
from resattn.models.registry import build_described
from resattn.training.job import resolved_steps, training_batches
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder

COMPARISONS = Path("runs/compare")
POOL = "runs"
BUDGETS = "budgets.json"
DIVERGED = "diverged.txt"
PROBES = 1000


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison, there or not: which arm with which seed, by which recipe, in which folder."""

    arm: str
    seed: int
    recipe: Recipe
    folder: RunFolder

    @property
    def diverged(self) -> bool:
        """Whether its loss stopped being finite, which it would do again."""
        return (self.folder.path / DIVERGED).exists()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged or self.folder.results_file.exists()

    def require_own(self) -> None:
        """Raise ResattnError where the folder holds a run by another recipe."""
        if not self.folder.recipe_file.exists():
            return
        there = self.folder.recipe()
        settled = there.replace(steps=self.recipe.steps, precision=self.recipe.precision)
        if settled != self.recipe:
            raise ResattnError(
                f"{self.folder.path} holds a run by another recipe, perhaps of another version of resattn",
                "move it away, and give the command again",
            )


def planned_runs(comparison: Comparison, *, parent: Path = COMPARISONS) -> list[PlannedRun]:
    """All runs of a comparison, all arms of one seed before the next seed.

    Runs lie under `parent`/runs, where comparisons that have a run in common share it. Where steps or
    multiply-accumulates are held equal and only a time is given, the control's speed is measured, once: the steps it
    makes in that time are kept beside the runs. Raises ResattnError for data and models that are not there.
    """
    lengths = _lengths(comparison, parent)
    runs = []
    for seed in range(comparison.seeds):
        for arm, recipe in comparison.recipes.items():
            whole = recipe.replace(seed=seed, **lengths[arm])
            folder = RunFolder(parent / POOL / f"{whole.model}-seed{seed}-{recipe_key(whole)}")
            runs.append(PlannedRun(arm, seed, whole, folder))
    return runs


def recipe_key(recipe: Recipe) -> str:
    """Ten hexadecimal digits that tell recipes apart; fields at their defaults have no part in it."""
    text = json.dumps(_chosen(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _chosen(value: Any) -> dict[str, Any]:
    """The fields that are not at their defaults, so that a field a later version adds changes no key."""
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        its = getattr(value, field.name)
        if dataclasses.is_dataclass(its):
            chosen.update({f"{field.name}.{name}": inner for name, inner in _chosen(its).items()})
        elif its != field.default and not (field.name == "model_options" and not its):
            chosen[field.name] = its
    return chosen


def _lengths(comparison: Comparison, parent: Path) -> dict[str, Mapping[str, Any]]:
    """By arm, the fields of its recipe that say how long it trains."""
    costs = {arm: training_cost(recipe) for arm, recipe in comparison.recipes.items()}
    if comparison.equal == "time":
        return {arm: {"time": comparison.time} for arm in comparison.recipes}
    control = comparison.recipes[comparison.control]
    steps = _control_steps(control, comparison, parent)
    if comparison.equal == "steps":
        return {arm: {"steps": steps} for arm in comparison.recipes}
    whole = steps * costs[comparison.control]
    return {arm: {"steps": max(1, round(whole / cost))} for arm, cost in costs.items()}


def training_cost(recipe: Recipe) -> float:
    """Multiply-accumulates of the forward passes of one step, the mean over the image sizes of a run.

    Raises ResattnError for data that is not prepared and a model that cannot be built.
    """
    batches = training_batches(recipe, open_split(recipe.data), count=PROBES)
    sizes = Counter(batches.size(number) for number in range(PROBES))
    mean = sum(count * network_cost(recipe, size).macs for size, count in sizes.items()) / PROBES
    return mean * recipe.batch_size * recipe.optimization.accumulate


class NetworkCost(NamedTuple):
    """Learnable parameters, and multiply-accumulates of one image."""

    parameters: int
    macs: int


def network_cost(recipe: Recipe, size: int | None = None) -> NetworkCost:
    """What the recipe's network costs for images of `size`, the data's own where left out; counted, not run."""
    split = open_split(recipe.data)
    options = json.dumps(recipe.model_options, sort_keys=True)
    return _counted(recipe.model, options, len(split.class_ids), size or split.images.shape[1])


@cache
def _counted(model: str, options: str, classes: int, size: int) -> NetworkCost:
    with torch.device("meta"):
        network = build_described(model, num_classes=classes, options=json.loads(options))
    return NetworkCost(parameters(network), multiply_accumulates(network, size))


def _control_steps(control: Recipe, comparison: Comparison, parent: Path) -> int:
    if comparison.length:
        return resolved_steps(control.replace(**comparison.length))
    recipe = control.replace(time=comparison.time)
    key = recipe_key(recipe)
    path = parent / POOL / BUDGETS
    with locked(path.parent):
        known: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if key not in known:
            known[key] = resolved_steps(recipe)
            with whole_text_file(path) as file:
                file.write(json.dumps(known, indent=2) + "\n")
    return known[key]

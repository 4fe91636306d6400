"""What one arm of a comparison costs and reached, over its finished runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from resattn.experiments.comparison_numbers import Mean, RunRecord, finished_of
from resattn.experiments.network_cost import network_cost, training_cost
from resattn.experiments.planned_runs import PlannedRun
from resattn.training.job import training_split
from resattn.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """An arm over its finished runs: cost of the network, length of the runs, scores.

    `macs` are of one image at the data's own size, `training_macs` of the forward passes of a whole run. `steps`,
    `images`, `epochs`, `training_macs` and `minutes` are means.
    """

    name: str
    model: str
    parameters: int
    macs: int
    runs: int
    diverged: int
    steps: float
    images: float
    epochs: float
    training_macs: float
    minutes: float
    top1: Mean
    top5: Mean
    loss: Mean
    recipe: str


def summarize(
    name: str, recipe: Recipe, records: Sequence[RunRecord], runs: Sequence[PlannedRun]
) -> ArmSummary:
    """The arm `name`, whose recipe with seed 0 is `recipe`, as its runs stand."""
    done = finished_of(records, name)
    cost = network_cost(recipe)
    planned = next((each.recipe for each in runs if each.arm == name), recipe)
    steps, images = Mean.of([each.steps for each in done]).mean, Mean.of([each.images for each in done]).mean
    return ArmSummary(
        name=name,
        model=recipe.model,
        parameters=cost.parameters,
        macs=cost.macs,
        runs=len(done),
        diverged=sum(each.arm == name and each.state == "diverged" for each in records),
        steps=steps,
        images=images,
        epochs=images / len(training_split(recipe).images),
        training_macs=steps * training_cost(recipe),
        minutes=Mean.of([each.minutes for each in done]).mean,
        **{score: Mean.of([each.scores[score] for each in done]) for score in ("top1", "top5", "loss")},
        recipe=planned.to_yaml(),
    )

"""The plan of a study with trials of a few steps, for the tests to change."""

from typing import Any

from resattn.experiments.plan import Plan, make_plan
from resattn.training.recipe import Optimization, Recipe

TINY = Recipe(
    data="dots",
    steps=5,
    batch_size=8,
    validations=2,
    start_scale=1,
    precision="fp32",
    optimization=Optimization(optimizer="adamw", lr=0.001),
)
SEARCH = ["label_smoothing=0:0.3", "batch_size=6,8"]


def plan_of(trials: int, **changes: Any) -> Plan:
    search = changes.pop("search", SEARCH)
    return make_plan("s", changes.pop("recipe", TINY), search, trials=trials, **changes)

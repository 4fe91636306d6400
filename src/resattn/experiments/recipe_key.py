"""A short name for what a recipe says."""

import dataclasses
import hashlib
import json
from typing import Any

from resattn.training.recipe import Recipe


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

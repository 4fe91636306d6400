"""What a recipe says that has an effect: fields that another one switches off are left at their defaults."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from resattn.data.augmentation import Augmentation
from resattn.training.recipe import Optimization, Recipe

Group = TypeVar("Group", Optimization, Augmentation)
# By optimizer, the fields it has no use for.
UNUSED: dict[str, Sequence[str]] = {
    "sgd": ("beta2", "rest_lr", "muon_iterations"),
    "adamw": ("rest_lr", "muon_iterations"),
    "muon": ("beta2",),
}


def effective(recipe: Recipe) -> Recipe:
    """The recipe with fields at their defaults that its optimizer, its mixing or its image sizes have no use for.

    How often one looks (`validations`) has no effect on what is trained either.
    """
    unused = UNUSED[recipe.optimization.optimizer]
    optimization = _at_defaults(recipe.optimization, Optimization(), unused)
    augmentation = recipe.augmentation
    if augmentation.mixup == augmentation.cutmix == 0:
        augmentation = _at_defaults(augmentation, Augmentation(), ("mix_until",))
    size_ramp = Recipe().size_ramp if recipe.start_scale == 1 else recipe.size_ramp
    return recipe.replace(
        optimization=optimization,
        augmentation=augmentation,
        size_ramp=size_ramp,
        validations=Recipe().validations,
    )


def _at_defaults(said: Group, default: Group, names: Sequence[str]) -> Group:
    return dataclasses.replace(said, **{name: getattr(default, name) for name in names})

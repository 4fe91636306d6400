"""How two processes are started, and a recipe for them."""

import sys
from pathlib import Path

from resattn.data.augmentation import Augmentation
from resattn.training.recipe import Optimization, Recipe

SCRIPT = Path(__file__).with_name("one_of_two.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
RESATTN = [sys.executable, "-m", "resattn", "train"]


def recipe_of(**changes: object) -> Recipe:
    """All that could notice how many processes there are: batch normalisation, mixing, averaging."""
    recipe = Recipe(
        data="dots",
        model="resattn_mini",
        model_options={"width_scale": 0.25},
        steps=50,
        batch_size=20,
        start_scale=0.75,
        validations=2,
        averaging=0.1,
        augmentation=Augmentation(shift=2, crop=0.6, mixup=0.2, cutmix=0.5, erase=0.2),
        optimization=Optimization(optimizer="sgd", lr=0.002, momentum=0.9),
        precision="fp32",
    )
    return recipe.replace(**changes)


def written(recipe: Recipe, folder: Path) -> str:
    file = folder / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    return str(file)

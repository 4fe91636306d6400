"""What a user leaves open of a recipe: taken from a recipe file, and from the weights to start from."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from resattn.errors import ResattnError
from resattn.models.pretrained import best_pretrained
from resattn.training.fine_tuning import PRETRAINED, RECIPE_NAME, source_model
from resattn.training.recipe import RUN_LENGTHS, Recipe, find_recipe
from resattn.training.yaml_fields import read_yaml


def left_open(
    recipe_file: str | None, *, said: Collection[str], start_from: str | None
) -> tuple[Path | None, dict[str, Any]]:
    """The file behind `recipe_file` (a path or a shipped name), and the fields that hold where the user says nothing.

    `said` are the names of the fields the user sets, of which only those that say how long a run is matter here: one of
    them takes the file's away. Weights to start from bring the shipped recipe for fine-tuning, where there is no other,
    and their network where neither the user nor the file says one; for `pretrained` that is the best that ships.
    Raises ResattnError for files not there, or wrong, and where the user says twice how long a run is.
    """
    lengths = [length for length in RUN_LENGTHS if length in said]
    if len(lengths) > 1:
        raise ResattnError(f"{' and '.join(lengths)} say twice how long the run is", "keep one of them")
    name = recipe_file or (RECIPE_NAME if start_from is not None else None)
    if name is None:
        return None, {}
    path = find_recipe(name)
    recipe = Recipe.from_yaml(path)  # says what is wrong with the file
    fields = {
        field: value
        for field, value in read_yaml(path, "recipe").items()
        if value is not None and not (lengths and field in RUN_LENGTHS)
    }
    start = start_from if start_from is not None else recipe.start_from
    if start is not None and "model" not in fields:
        fields["model"] = best_pretrained() if start == PRETRAINED else source_model(start)
    return path, fields

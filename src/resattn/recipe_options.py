"""What a command line leaves open of a recipe: filled from a recipe file, and from the weights to start from."""

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from resattn.models.pretrained import best_pretrained
from resattn.training.fine_tuning import PRETRAINED, RECIPE_NAME, source_model
from resattn.training.recipe import RUN_LENGTHS, Recipe, find_recipe
from resattn.training.yaml_fields import read_yaml


def fill_from_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill options of a recipe that were not given from the file after --recipe, once that is known to be valid.

    With --from, and without --recipe, that is the shipped recipe for fine-tuning. Where neither the command line nor
    the file says --model, it is the network of the weights; for `pretrained`, the best that ships. Raises ResattnError
    for files not there, or wrong.
    """
    given = {argument.name: argument.tokens[0].value for argument in arguments if argument.tokens}
    name = given.get("--recipe") or (RECIPE_NAME if "--from" in given else None)
    if name is None:
        return
    path = find_recipe(name)
    recipe = Recipe.from_yaml(path)
    length_given = given.keys() & {f"--{length}" for length in RUN_LENGTHS}
    fields = {
        field: value
        for field, value in read_yaml(path).items()
        if value is not None and not (length_given and field in RUN_LENGTHS)
    }
    start = given.get("--from", recipe.start_from)
    if start is not None and "model" not in fields:
        fields["model"] = best_pretrained() if start == PRETRAINED else source_model(str(start))
    Dict(fields, source=str(path), use_commands_as_keys=False)(app, commands, arguments)

"""A folder of one's own images as the data of a recipe: packed when a run begins, at the size its network takes."""

import sys

import torch

from resattn.data.image_folder import prepare_once
from resattn.data.labelled_folder import folder_of
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.models import create_model
from resattn.models.weights import read_metadata
from resattn.training.fine_tuning import starting_weights
from resattn.training.recipe import Recipe

NAMED = 10


def with_packed_folder(recipe: Recipe) -> Recipe:
    """The recipe with the name of a prepared data set in place of a folder (`folder_of`); any other recipe as it is.

    The folder is packed unless it is packed already and unchanged. Raises ResattnError where it cannot be, where the
    weights to start from are not there, and for a `size` of what is no folder.
    """
    path = folder_of(recipe.data)
    if path is None:
        if recipe.size is not None:
            open_split(recipe.data)  # says it where that is no data set, such as a folder without its slash
            raise ResattnError(
                f"{recipe.data} is packed already, and a size is for a folder of images",
                "leave it out, or prepare the images anew at that size",
            )
        return recipe
    size = recipe.size or _input_side(recipe)
    name, report = prepare_once(path, size=size)
    if report is None:
        lines = [f"{path} is packed already, as {name}, and unchanged"]
    else:
        counts = ", ".join(f"{count:,} {split}" for split, count in report.images.items())
        lines = [f"packed {path} as {name}: {report.classes} classes at {size} px, images: {counts}"]
        classes = open_split(name).class_names
        lines.append(f"classes: {', '.join(classes[:NAMED])}{', ...' if len(classes) > NAMED else ''}")
        lines += [f"note: {note}" for note in report.notes]
        lines += [f"left out: {reason}" for reason in report.skipped]
    if recipe.start_from is None:
        lines.append(
            "note: it begins with random weights; those that ship (--from pretrained) need fewer images"
        )
    print("\n".join(lines), file=sys.stderr, flush=True)
    return recipe.replace(data=name, size=None)


def _input_side(recipe: Recipe) -> int:
    """The side in pixels that the weights to start from were trained at, or else the network is made for."""
    weights = starting_weights(recipe)
    if weights is not None:
        return int(read_metadata(weights)["input_size"][-1])
    with torch.device("meta"):
        configuration = create_model(recipe.model).pretrained_cfg
    return int(configuration["input_size"][-1])  # type: ignore[index]

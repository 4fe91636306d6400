"""A trained network from whatever a user names: a run folder, a weights file, or a model's name."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from resattn.errors import ResattnError
from resattn.files import expanded, is_file, is_folder, is_there
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.pretrained import best_pretrained, find_pretrained
from resattn.models.registry import list_variants
from resattn.models.weights import load_weights

WEIGHTS_NAME = "weights.safetensors"
RECIPE_NAME = "recipe.yaml"
EXPORTED = ".onnx"


def load(source: str | Path) -> ResidualAttentionNetwork:
    """The trained network in a run folder or .safetensors file, or the one shipped under a model's name.

    It is in evaluation mode, with class ids and readable names in `pretrained_cfg` ("label_names",
    "label_descriptions"). Raises ResattnError where there is nothing to load, naming what would make it.
    """
    weights = find_weights(source)
    if weights.suffix == EXPORTED:
        raise ResattnError(
            f"{source} was exported: `resattn predict` and `serve` take it, and nothing else does",
            "name the run or the weights it was made from",
        )
    return load_weights(weights)


def find_weights(source: str | Path) -> Path:
    """The weights file of a run folder, a .safetensors file itself, or the one shipped under a model's name.

    Raises ResattnError where there is none, naming what would make it.
    """
    path = expanded(source)
    if is_folder(path):
        weights = path / WEIGHTS_NAME
        if is_file(weights):
            return weights
        if is_file(path / RECIPE_NAME):
            raise ResattnError(
                f"the run in {path} is not finished: it has no {WEIGHTS_NAME}",
                f"go on with `resattn train --resume --run-dir {shlex.quote(str(path))}`",
            )
        raise ResattnError(
            f"{path} holds no run (no {WEIGHTS_NAME})", "name a run folder, a weights file or a model"
        )
    if is_file(path):
        return path
    if str(source) in list_variants():
        return find_pretrained(str(source)).verified_file()
    raise ResattnError(
        f"{source} is no run folder, weights file or model name",
        "`ls runs/` lists runs, `resattn models` lists models",
    )


def network_and_images(paths: Sequence[str], *, model: str | None = None) -> tuple[str, Sequence[str]]:
    """Tell the network from the images in what a user named: the network's source, and the images' paths.

    The network is `model` where that is given. Else it is the first path, where that is a run folder, a .safetensors or
    .onnx file or (there being no such file) a model's name; else the best one that ships. Raises ResattnError where
    that leaves no images, no network ships, the first of several paths is nothing at all, or another is a network.
    """
    if model is not None:
        return model, paths
    first, rest = paths[0], paths[1:]
    if late := next(filter(_names_network, rest), None):
        raise ResattnError(f"{late} is a network, and stands behind {first}", "name one network, and first")
    if _names_network(first):
        if not rest:
            raise ResattnError(
                f"{first} is a network, and no images are named", "name image files or folders too"
            )
        return first, rest
    if rest and not is_there(first):
        find_weights(first)  # says what was looked for
    return best_pretrained(), paths


def _names_network(source: str) -> bool:
    path = expanded(source)
    if is_folder(path):
        return is_file(path / WEIGHTS_NAME) or is_file(path / RECIPE_NAME)
    if path.suffix in (".safetensors", EXPORTED):
        return True
    return not is_there(path) and source in list_variants()

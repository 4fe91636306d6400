"""Training as one call in Python: `resattn.train`."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resattn.errors import ResattnError
from resattn.files import expanded

if TYPE_CHECKING:
    from resattn.evaluation.classification import ClassificationResult
    from resattn.training.recipe import Recipe

SOURCE = "resattn.train"


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run: its folder, which `resattn.load` takes, and what its averaged weights reach on the images that
    its recipe validates on."""

    folder: Path
    results: "ClassificationResult"


def train(
    recipe: str | Path | None = None, *, run_dir: str | Path | None = None, **fields: Any
) -> TrainedRun:
    """Train a network, as `resattn train` does in one process, with the same defaults, bars and files.

        run = resattn.train(data="photos/", start_from="pretrained", time="5m")
        run = resattn.train("laptop-20m", seed=1, optimization={"lr": 0.01})
        network = resattn.load(run.folder)

    `recipe` is a YAML file or the name of a recipe that ships; with `start_from` it is fine-tune where left out.
    `fields` are those of `resattn.training.recipe.Recipe` and have the last word, None says nothing; groups
    (`optimization`, `augmentation`, `model_options`) are mappings, of which the fields left out stay what the recipe
    says. `data` may be the Path of a folder of images, `start_from` that of a run or of weights. The run lies in
    `run_dir`, or in the next free runs/DATA-MODEL-N.

    Raises ResattnError for what cannot be trained, naming the field, and outside the main thread, where no signal can
    be taken. Ctrl-C, once the network trains, raises `resattn.training.stopping.TrainingStopped`, which is no
    Exception, with a note of how to go on.
    """
    chosen = full_recipe(recipe, fields)
    if threading.current_thread() is not threading.main_thread():
        raise ResattnError(
            "resattn.train runs in the main thread, where Ctrl-C can be taken",
            "call it there, or start `resattn train` as a process",
        )
    from resattn.training import run as running
    from resattn.training.own_images import with_packed_folder
    from resattn.training.run_folder import RunFolder, new_run_folder
    from resattn.training.stopping import TrainingStopped

    if run_dir is not None:
        folder = RunFolder(expanded(run_dir))
    else:
        chosen = with_packed_folder(chosen)
        folder = new_run_folder(chosen)
    try:
        return TrainedRun(folder.path, running.train(chosen, folder))
    except TrainingStopped as stopped:
        stopped.add_note(f"go on with: {folder.resume_command}")
        raise
    finally:
        folder.remove_if_empty()


def full_recipe(recipe: str | Path | None, fields: Mapping[str, Any]) -> "Recipe":
    """The recipe that `train` trains by; ResattnError for files not there, and for fields unknown or wrong."""
    from resattn.training.recipe import Recipe
    from resattn.training.recipe_defaults import left_open

    said = {name: _plain(name, value) for name, value in fields.items() if value is not None}
    start = said.get("start_from")
    _, values = left_open(
        None if recipe is None else str(expanded(recipe)),
        said=said,
        start_from=start if isinstance(start, str) else None,
    )
    for name, value in said.items():
        filled = values.get(name)
        values[name] = filled | value if isinstance(filled, dict) and isinstance(value, dict) else value
    return Recipe.from_mapping(values, source=SOURCE)


def _plain(name: str, value: object) -> object:
    """What a YAML file would hold in its place."""
    if isinstance(value, Mapping):
        return {str(key): _plain(name, entry) for key, entry in value.items()}
    if isinstance(value, Path):
        return f"folder:{value}" if name == "data" else str(expanded(value))
    if isinstance(value, tuple):
        return [_plain(name, entry) for entry in value]
    if isinstance(value, np.integer):
        return int(value)
    return value

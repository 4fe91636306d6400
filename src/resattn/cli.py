"""The verbs of the `resattn` command: arguments in, one call, a printed answer."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from resattn.errors import ResattnError
from resattn.tables import console, print_preparation, print_scores, print_variants
from resattn.training.recipe import Recipe

SkipBad = Annotated[bool, Parameter(negative="", help="Leave out images that cannot be read, and list them.")]
Archive = Annotated[Path | None, Parameter(help="The official archive, where you have it already.")]
Download = Annotated[bool, Parameter(negative="", help="Fetch the archive from its official address.")]


def prepare_tiny_imagenet(
    *, archive: Archive = None, download: Download = False, skip_bad: SkipBad = False, size: int = 64
) -> None:
    """Pack Tiny ImageNet (200 classes, 64x64 RGB, boxes) from its official archive.

    Parameters
    ----------
    size
        Side in pixels; for another one than 64 images are resized, and the data set is called tiny-imagenet-SIZE.
    """
    from resattn.data.tiny_imagenet import prepare_tiny_imagenet as prepare

    print_preparation(prepare(archive=archive, download=download, skip_bad=skip_bad, size=size))


def prepare_folder(
    path: Path, /, *, name: str, size: int = 64, val_share: float = 0.1, skip_bad: SkipBad = False
) -> None:
    """Pack your own images: one folder a class, or train/ and val/ with one folder a class in each.

    Parameters
    ----------
    path
        The folder.
    name
        What to call the data set from now on: `resattn train --data NAME`.
    size
        Side of the packed images in pixels: the shorter side is resized to it, then the centre is cut out.
    val_share
        Share of each class kept for validation, where there is no val/ folder.
    """
    from resattn.data.image_folder import prepare_image_folder

    print_preparation(
        prepare_image_folder(path, name=name, size=size, val_share=val_share, skip_bad=skip_bad)
    )


def prepare_cifar10(*, archive: Archive = None, download: Download = False) -> None:
    """Pack CIFAR-10 (10 classes, 32x32 RGB) from its official archive."""
    from resattn.data.cifar import prepare_cifar

    print_preparation(prepare_cifar("cifar10", archive=archive, download=download))


def prepare_cifar100(*, archive: Archive = None, download: Download = False) -> None:
    """Pack CIFAR-100 (100 classes, 32x32 RGB) from its official archive."""
    from resattn.data.cifar import prepare_cifar

    print_preparation(prepare_cifar("cifar100", archive=archive, download=download))


def prepare_shapes(*, seed: int = 0) -> None:
    """Draw the embedded data set of shapes and textures from a seed."""
    from resattn.data.shapes import prepare_shapes as prepare

    print_preparation(prepare(seed=seed))


def train(
    *,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),  # noqa: B008
    recipe_file: Annotated[str | None, Parameter(name="--recipe")] = None,
    run_dir: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train a network, or go on with a run that was stopped.

    Parameters
    ----------
    recipe_file
        A recipe (YAML), or the name of one that ships with resattn; options given beside it have the last word. With
        --from it is fine-tune where left out.
    run_dir
        The run's folder; runs/DATA-MODEL-N where left out.
    resume
        Go on with the run in --run-dir, or with the newest unfinished one under runs/.
    """
    from resattn.training import run as running
    from resattn.training.own_images import with_packed_folder
    from resattn.training.run_folder import RunFolder, latest_unfinished, new_run_folder
    from resattn.training.stopping import TrainingStopped

    if recipe.start_from and not recipe_file:
        print("--from: with the recipe fine-tune, where no option says otherwise", file=sys.stderr)
    if resume and recipe != Recipe():
        raise ResattnError(
            "--resume goes on with the recipe in the run folder, and takes no options of a recipe",
            "leave them out, or start a new run without --resume",
        )
    if resume:
        folder = RunFolder(run_dir) if run_dir else latest_unfinished()
    else:
        recipe = recipe if run_dir else with_packed_folder(recipe)  # which names the folder
        folder = RunFolder(run_dir) if run_dir else new_run_folder(recipe)
    try:
        result = running.resume(folder) if resume else running.train(recipe, folder)
    except TrainingStopped as stopped:
        print(f"stopped by {stopped}; go on with: {folder.resume_command}", file=sys.stderr)
        sys.exit(stopped.exit_status)
    print_scores(result)
    console.print(
        f"\nThe run lies in [bold]{folder.path}[/bold]: weights, results, learning curves, confusion."
    )


def predict(
    paths: Annotated[list[str], Parameter(help="Image files or folders of them; a network may stand first.")],
    /,
    *,
    model: str | None = None,
    top: int = 5,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Name what is in images, with the network that ships with resattn or with your own.

    The network is --model; else the first path, where that is a run folder, a .safetensors file or a model's name; else
    the shipped one.

    Parameters
    ----------
    model
        A run folder, a .safetensors file, or the name of a model with weights. Every path is then an image.
    top
        How many classes to name.
    json_output
        Print one JSON object a line, one line an image.
    """
    from resattn.models.loading import load, network_and_images
    from resattn.serving.predictor import Predictor, iter_image_files

    source, images = network_and_images(paths, model=model)
    files = iter_image_files(images)
    predictor = Predictor(load(source))
    for prediction in predictor.stream(files, top=top):
        if json_output:
            print(json.dumps(prediction.to_json()))
            continue
        console.print(f"[bold]{prediction.source}[/bold]")
        for label, description, probability in prediction.rows():
            console.print(f"  {probability:6.1%}  {description}  [dim]{label}[/dim]")


def models(*, json_output: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """List the networks: parameters, multiply-accumulates of one image at the size they were made for, weights.

    Parameters
    ----------
    json_output
        Print one JSON array.
    """
    from resattn.models.catalog import describe_variants

    rows = describe_variants()
    if json_output:
        print(json.dumps(rows))
        return
    print_variants(rows)

"""The verbs of the `resattn` command: arguments in, one call, a printed answer."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from resattn.errors import ResattnError
from resattn.tables import (
    plain,
    print_line,
    print_offline,
    print_prediction,
    print_preparation,
    print_scores,
    print_variants,
)
from resattn.training.recipe import Recipe, parse_duration

if TYPE_CHECKING:
    from resattn.training.run_folder import RunFolder

SkipBad = Annotated[bool, Parameter(negative="", help="Leave out images that cannot be read, and list them.")]
Archive = Annotated[Path | None, Parameter(help="The official archive, where you have it already.")]
Download = Annotated[bool, Parameter(negative="", help="Fetch the archive from its official address.")]


def prepare_tiny_imagenet(
    *,
    archive: Archive = None,
    download: Download = False,
    skip_bad: SkipBad = False,
    size: int = 64,
    classes: int | None = None,
) -> None:
    """Pack Tiny ImageNet (200 classes, 64x64 RGB, boxes) from its official archive.

    Parameters
    ----------
    size
        Side in pixels; for another one than 64 images are resized, and the data set is called tiny-imagenet-SIZE.
    classes
        Pack so many of the 200 classes, always the same ones, as tiny-imagenet-CLASSES-classes or, with another size,
        tiny-imagenet-CLASSES-classes-SIZE.
    """
    from resattn.data.tiny_imagenet import prepare_tiny_imagenet as prepare

    print_preparation(
        prepare(archive=archive, download=download, skip_bad=skip_bad, size=size, classes=classes)
    )


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
    save_every: str = "60s",
    devices: int = 1,
    nodes: int = 1,
    head: str | None = None,
    restarts: int = 0,
) -> None:
    """Train a network, or go on with a run that was stopped; on one device or on many.

    Parameters
    ----------
    recipe_file
        A recipe (YAML), or the name of one that ships with resattn; options given beside it have the last word. With
        --from it is fine-tune where left out.
    run_dir
        The run's folder; runs/DATA-MODEL-N where left out.
    resume
        Go on with the run in --run-dir, or with the newest unfinished one under runs/.
    save_every
        How often to save what a killed run goes on from.
    devices
        Processes on this machine, each with a GPU of its own or its share of the cores. They divide every batch.
    nodes
        Machines that train together; give the same command, with the same --run-dir on a shared disk, on each.
    head
        Where the machines meet: the first one's HOST or HOST:PORT.
    restarts
        How often a run of several processes goes on by itself after one of them died.
    """
    from resattn.training import run as running
    from resattn.training.launching import launch
    from resattn.training.processes import Processes, this_process
    from resattn.training.stopping import TrainingStopped

    if recipe.start_from and not recipe_file:
        print("--from: with the recipe fine-tune, where no option says otherwise", file=sys.stderr)
    if resume and recipe != Recipe():
        raise ResattnError(
            "--resume goes on with the recipe in the run folder, and takes no options of a recipe",
            "leave them out, or start a new run without --resume",
        )
    processes, seconds = this_process(), parse_duration(save_every)
    if processes.world == 1 and restarts and devices * nodes == 1:
        raise ResattnError(
            "--restarts is for several processes, and this is one",
            "leave it out, and go on with --resume where the process died; or give --devices",
        )
    recipe, folder = _run_folder(
        recipe, run_dir, resume=resume, several=max(processes.world, devices * nodes) > 1
    )
    if processes.world == 1 and devices * nodes > 1:
        if not resume:  # whose batch size the run folder knows
            Processes(world=devices * nodes).require_even_shares(recipe.batch_size)
            folder.require_free()  # a process that is started anew takes the run that lies there for its own
        launch(sys.argv[1:], devices=devices, nodes=nodes, head=head, restarts=restarts)
    try:
        if resume:
            result = running.resume(folder, checkpoint_seconds=seconds, processes=processes)
        else:
            result = running.train_or_go_on(recipe, folder, processes, checkpoint_seconds=seconds)
    except TrainingStopped as stopped:
        if processes.first:
            print(f"stopped by {stopped}; go on with: {folder.resume_command}", file=sys.stderr)
        sys.exit(stopped.exit_status)
    finally:
        folder.remove_if_empty()
    if not processes.first:
        return
    print_scores(result)
    place = f"[bold]{plain(str(folder.path))}[/bold]"
    print_line(f"\nThe run lies in {place}: weights, results, curves, mistakes.")


def _run_folder(
    recipe: Recipe, run_dir: Path | None, *, resume: bool, several: bool
) -> "tuple[Recipe, RunFolder]":
    """Where the run lies or is to lie, and the recipe with its data packed where the folder is named after them."""
    from resattn.training.own_images import with_packed_folder
    from resattn.training.run_folder import RunFolder, latest_unfinished, new_run_folder

    if run_dir:
        return recipe, RunFolder(run_dir)
    if several:
        raise ResattnError("several processes need one folder for their run", "name it: --run-dir DIR")
    if resume:
        return recipe, latest_unfinished()
    recipe = with_packed_folder(recipe)
    return recipe, new_run_folder(recipe)


def predict(
    paths: Annotated[list[str], Parameter(help="Image files or folders of them; a network may stand first.")],
    /,
    *,
    model: str | None = None,
    out: Path | None = None,
    top: int = 5,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Name what is in images, with the network that ships with resattn or with your own.

    The network is --model; else the first path, where that is a run folder, a .safetensors file, a file of `resattn
    export` or a model's name; else the shipped one. Images that cannot be read are left out, and named at the end.

    Parameters
    ----------
    model
        A run folder, a .safetensors or .onnx file, or the name of a model with weights. Every path is then an image.
    out
        Write one JSON object a line to this file, images that cannot be read among them. Paths may then also be .tar
        archives and .parquet tables, or folders with such; the same command goes on where it was stopped.
    top
        How many classes to name.
    json_output
        Print one JSON object a line, one line an image; with --out one object, how many images there were.
    """
    from resattn.data.image_streams import iter_image_files
    from resattn.models.loading import network_and_images
    from resattn.serving.offline import predict_to_file
    from resattn.serving.prediction import Unreadable, require_readable
    from resattn.serving.predictor import Predictor

    source, images = network_and_images(paths, model=model)
    if out is not None:
        report = predict_to_file(source, images, out, top=top)
        if json_output:
            print(json.dumps({"out": str(out), **asdict(report)}))
        else:
            print_offline(report, out)
        return
    files = iter_image_files(images)
    unreadable = []
    for outcome in Predictor.open(source).outcomes(files, top=top):
        if isinstance(outcome, Unreadable):
            unreadable.append(outcome)
        elif not json_output:
            print_prediction(outcome)
        if json_output:
            print(json.dumps(outcome.to_json()))
    require_readable(unreadable)


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

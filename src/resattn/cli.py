"""The verbs of the `resattn` command: arguments in, one call, a printed answer."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, ArgumentCollection, Parameter
from cyclopts.config import Dict
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from resattn.errors import ResattnError
from resattn.training.recipe import Recipe, find_recipe, read_yaml

if TYPE_CHECKING:
    from resattn.data.packing import PreparedReport
    from resattn.evaluation.classification import ClassificationResult
    from resattn.hardware import Execution
    from resattn.models.network import ResidualAttentionNetwork

console = Console(highlight=False)
# Three ways to say how long a run is: one of them on the command line replaces any of them in a recipe.
RUN_LENGTHS = ("time", "epochs", "steps")
SkipBad = Annotated[bool, Parameter(negative="", help="Leave out images that cannot be read, and list them.")]
Archive = Annotated[Path | None, Parameter(help="The official archive, where you have it already.")]
Download = Annotated[bool, Parameter(negative="", help="Fetch the archive from its official address.")]
Source = Annotated[
    str, Parameter(help="A run folder, a .safetensors file, or the name of a model with weights.")
]


def prepare_tiny_imagenet(
    *, archive: Archive = None, download: Download = False, skip_bad: SkipBad = False
) -> None:
    """Pack Tiny ImageNet (200 classes, 64x64 RGB, boxes) from its official archive."""
    from resattn.data.tiny_imagenet import prepare_tiny_imagenet as prepare

    _report(prepare(archive=archive, download=download, skip_bad=skip_bad))


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

    _report(prepare_image_folder(path, name=name, size=size, val_share=val_share, skip_bad=skip_bad))


def prepare_cifar10(*, archive: Archive = None, download: Download = False) -> None:
    """Pack CIFAR-10 (10 classes, 32x32 RGB) from its official archive."""
    from resattn.data.cifar import prepare_cifar

    _report(prepare_cifar("cifar10", archive=archive, download=download))


def prepare_cifar100(*, archive: Archive = None, download: Download = False) -> None:
    """Pack CIFAR-100 (100 classes, 32x32 RGB) from its official archive."""
    from resattn.data.cifar import prepare_cifar

    _report(prepare_cifar("cifar100", archive=archive, download=download))


def prepare_shapes(*, seed: int = 0) -> None:
    """Draw the embedded data set of shapes and textures from a seed."""
    from resattn.data.shapes import prepare_shapes as prepare

    _report(prepare(seed=seed))


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
        A recipe (YAML), or the name of one that ships with resattn; options given beside it have the last word.
    run_dir
        The run's folder; runs/DATA-MODEL-N where left out.
    resume
        Go on with the run in --run-dir, or with the newest unfinished one under runs/.
    """
    from resattn.training import run as running
    from resattn.training.run_folder import RunFolder, latest_unfinished, new_run_folder
    from resattn.training.stopping import TrainingStopped

    del recipe_file  # read by `fill_from_recipe`, before the options were parsed
    if resume and recipe != Recipe():
        raise ResattnError(
            "--resume goes on with the recipe in the run folder, and takes no options of a recipe",
            "leave them out, or start a new run without --resume",
        )
    if resume:
        folder = RunFolder(run_dir) if run_dir else latest_unfinished()
    else:
        folder = RunFolder(run_dir) if run_dir else new_run_folder(recipe)
    try:
        result = running.resume(folder) if resume else running.train(recipe, folder)
    except TrainingStopped as stopped:
        print(f"stopped by {stopped}; go on with: {folder.resume_command}", file=sys.stderr)
        sys.exit(stopped.exit_status)
    _print_scores(result)
    console.print(
        f"\nThe run lies in [bold]{folder.path}[/bold]: weights, results, learning curves, confusion."
    )


def fill_from_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill options of `train` that were not given from the file after --recipe, once that is known to be valid."""
    for argument in arguments:
        if argument.name == "--recipe" and argument.tokens:
            path = find_recipe(argument.tokens[0].value)
            Recipe.from_yaml(path)
            chosen = {other.name for other in arguments if other.tokens}
            length_chosen = chosen & {f"--{name}" for name in RUN_LENGTHS}
            fields = {
                name: value
                for name, value in read_yaml(path).items()
                if value is not None and not (length_chosen and name in RUN_LENGTHS)
            }
            Dict(fields, source=str(path), use_commands_as_keys=False)(app, commands, arguments)
            return


def evaluate(
    source: Source,
    /,
    *,
    data: str | None = None,
    split: str = "val",
    flip: Annotated[bool, Parameter(negative="")] = False,
    submission: Path | None = None,
    out: Path | None = None,
    batch_size: int = 256,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure a trained network: accuracy, calibration, per-class table, confusion figure.

    Parameters
    ----------
    data
        Prepared data set; the one the network was trained on where left out.
    split
        Which split: train, val or test.
    flip
        Also average over each image and its mirror image, reported apart from the single view.
    submission
        Write predictions to this file, one line an image, and measure nothing; for the test split unless
        --split names another.
    out
        Folder for results.json, per_class.csv and confusion.png; RUN/evaluation-DATA-SPLIT where left out.
    json_output
        Print one JSON object.
    """
    from resattn.data.packed import open_split
    from resattn.evaluation import classification
    from resattn.hardware import choose_execution
    from resattn.models.loading import load

    network = load(source)
    data = data or str(network.pretrained_cfg.get("data"))
    execution = choose_execution(precision)
    if submission:
        _submit(network, data, "test" if split == "val" else split, submission, execution)
        return
    result = classification.evaluate(
        network,
        open_split(data, split),
        batch_size=batch_size,
        execution=execution,
        flip="average" if flip else "none",
    )
    if out is None and Path(source).is_dir():
        out = Path(source) / f"evaluation-{data}-{split}"
    if out:
        classification.write_results(result, out)
    if json_output:
        print(json.dumps(result.to_json()))
        return
    _print_scores(result)
    if out:
        console.print(f"\nPer-class table and confusion figure are in [bold]{out}[/bold].")


def predict(
    source: Source,
    images: Annotated[list[Path], Parameter(help="Image files or folders of them.")],
    /,
    *,
    top: int = 5,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Name what is in images.

    Parameters
    ----------
    top
        How many classes to name.
    json_output
        Print one JSON object a line, one line an image.
    """
    from resattn.models.loading import load
    from resattn.serving.predictor import Predictor, iter_image_files

    predictor = Predictor(load(source))
    for prediction in predictor.stream(iter_image_files(images), top=top):
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
    table = Table(
        Column("model", no_wrap=True), "input", "classes", "parameters", "MACs", "weights", box=SIMPLE
    )
    for row in rows:
        side = f"{row['input_size']} px"
        cost = (f"{row['parameters']:,}", f"{row['macs'] / 1e9:.3f} G")
        table.add_row(row["model"], side, str(row["classes"]), *cost, row["weights"] or "-")
    console.print(table)


def _submit(
    network: "ResidualAttentionNetwork", data: str, split: str, path: Path, execution: "Execution"
) -> None:
    from resattn.data.packed import open_split
    from resattn.evaluation.submission import write_submission

    lines = write_submission(network, open_split(data, split), path, execution=execution)
    console.print(f"{lines:,} predictions for {data} {split} are in {path}")


def _report(report: "PreparedReport") -> None:
    table = Table("split", "images", "with boxes", title=f"{report.name}: {report.classes} classes")
    for split, images in report.images.items():
        table.add_row(split, f"{images:,}", f"{report.boxes.get(split, 0):,}")
    console.print(table)
    for note in report.notes:
        console.print(f"note: {note}")
    if report.skipped:
        console.print(f"skipped {len(report.skipped)} bad images:")
        for line in report.skipped:
            console.print(f"  {line}")
    console.print(f"prepared in {report.seconds:.1f} s; train with: resattn train --data {report.name}")


def _print_scores(result: "ClassificationResult") -> None:
    table = Table("view", "top-1", "top-5", "loss", "calibration error", title=_title(result))
    rows: list[tuple[str, Any]] = [("single", result)]
    if result.flip_average is not None:
        rows.append(("with mirror image", result.flip_average))
    for view, scores in rows:
        table.add_row(
            view, f"{scores.top1:.2%}", f"{scores.top5:.2%}", f"{scores.loss:.4f}", f"{scores.ece:.2%}"
        )
    console.print(table)


def _title(result: "ClassificationResult") -> str:
    return f"{result.model} on {result.data} {result.split}: {result.images:,} images"

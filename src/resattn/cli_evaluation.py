"""The verb of the `resattn` command that measures a trained network: arguments in, one call, a printed answer."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from resattn.errors import ResattnError
from resattn.tables import plain, print_line, print_localization, print_robustness, print_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resattn.data.packed import PackedSplit
    from resattn.hardware import Execution
    from resattn.models.network import ResidualAttentionNetwork

TUNED_ON = "train"
Source = Annotated[
    str, Parameter(help="A run folder, a .safetensors file, or the name of a model with weights.")
]


def evaluate(
    source: Source,
    /,
    *,
    data: str | None = None,
    split: str | None = None,
    flip: Annotated[bool, Parameter(negative="")] = False,
    localization: Annotated[bool, Parameter(negative="")] = False,
    corruptions: Annotated[bool, Parameter(negative="")] = False,
    corruption_archive: Path | None = None,
    limit: int | None = None,
    publish: Path | None = None,
    submission: Path | None = None,
    out: Path | None = None,
    batch_size: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure a trained network: accuracy, calibration, tables, confusion, mistakes; where it looks; what it bears.

    Parameters
    ----------
    data
        Prepared data set, or folder:PATH with one folder of images a class; where left out, the data set that the
        network was trained on. Of the folder it was trained on, what was kept for validation; of another, every image.
        A path with a / needs no folder: before it.
    split
        Which split: train, val or test; val where left out, and test for --submission.
    flip
        Also average over each image and its mirror image, reported apart from the single view; with --submission,
        answer by that average.
    localization
        Score the masks against the boxes of the data set instead, beside a centred blob and Grad-CAM.
    corruptions
        Measure accuracy on images with noise, blur, fog and the like instead, at five severities.
    corruption_archive
        The same on the images of the official Tiny-ImageNet-C, a .tar file or a folder.
    limit
        With --localization, --corruptions and --corruption-archive: measure that many images, spread over the split.
    publish
        With --localization and --corruptions: also put the table into this folder of documents, in its results.md; of
        corruptions a figure, too.
    submission
        Write predictions to this file, one line an image, and measure nothing.
    out
        Folder for the figures and tables; RUN/evaluation-DATA-SPLIT where left out.
    batch_size
        Images computed together: 256 where left out, 64 with --localization.
    json_output
        Print one JSON object.
    """
    from resattn.evaluation.inference import configuration
    from resattn.evaluation.measured_images import images_to_measure
    from resattn.hardware import choose_execution
    from resattn.models.loading import load

    modes = {
        "--submission": submission is not None,
        "--localization": localization,
        "--corruptions": corruptions,
        "--corruption-archive": corruption_archive is not None,
    }
    given = {
        "--flip": flip,
        "--limit": limit is not None,
        "--publish": publish is not None,
        "--out": out is not None,
        "--json": json_output,
    }
    mode = _mode(modes, given)
    said = {
        "--data": data,
        "--split": split,
        "--precision": None if precision == "fp32" else precision,
        "--batch-size": batch_size,
        "--limit": limit,
    }
    network = load(source)
    data, part, labelled = images_to_measure(network, data, split, usual="test" if submission else "val")
    asked = _Asked(
        source=source,
        data=data,
        split=part,
        labelled=labelled,
        batch={} if batch_size is None else {"batch_size": batch_size},
        execution=choose_execution(precision),
        limit=limit,
        options=[f"{name}={value}" for name, value in said.items() if value is not None],
        publish=publish,
        out=out,
        run=Path(source) if Path(source).is_dir() else None,
        own=data == configuration(network).get("data"),
        json_output=json_output,
    )
    if submission:
        _submit(network, asked, submission, flip="average" if flip else "none")
    elif mode == "--localization":
        _localize(network, asked)
    elif mode:
        _corrupt(network, asked, corruption_archive)
    else:
        _classify(network, asked, flip="average" if flip else "none")


# What has no meaning beside another: an option that is passed over would be taken for done.
_MEANINGLESS = {
    "--submission": ("--limit", "--publish", "--out", "--json"),
    "--localization": ("--flip",),
    "--corruptions": ("--flip",),
    "--corruption-archive": ("--flip",),
    "": ("--limit", "--publish"),
}


def _mode(modes: Mapping[str, bool], given: Mapping[str, bool]) -> str:
    """Which of the four was asked for, if any. Raises ResattnError for two, and for options that it does not take."""
    asked = [mode for mode, there in modes.items() if there]
    if len(asked) > 1:
        raise ResattnError(
            f"{' and '.join(asked)} are different measurements", "give the command once for each"
        )
    mode = asked[0] if asked else ""
    for option in _MEANINGLESS[mode]:
        if given[option]:
            beside = f"has no meaning with {mode}" if mode else "is for --localization and --corruptions"
            raise ResattnError(f"{option} {beside}", "leave it out")
    return mode


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is to be measured on, how, and where it goes.

    `labelled` are the images where they are no data set's; `run` is the run folder, where the network came from one;
    `own` is whether the data set is the one it was trained on; `options` are those of the command that say what is
    measured and how.
    """

    source: str
    data: str
    split: str
    labelled: "PackedSplit | None"
    batch: dict[str, Any]
    execution: "Execution"
    limit: int | None
    options: Sequence[str]
    publish: Path | None
    out: Path | None
    run: Path | None
    own: bool
    json_output: bool

    def images(self) -> "PackedSplit":
        """What is to be measured on; a run's own data set that is no longer what it was is told."""
        from resattn.data.packed import open_split
        from resattn.evaluation.measured_images import note_prepared_anew
        from resattn.training.run_folder import RunFolder

        if self.labelled:
            return self.labelled
        images = open_split(self.data, self.split)
        run = RunFolder(self.run) if self.run and self.own else None
        # Weights that were copied out of their run lie in a folder without its record.
        if run and run.environment_file.exists():
            note_prepared_anew(images, run.environment())
        return images

    def folder(self, what: str) -> Path | None:
        """Where files go: --out, a folder in the run, or nowhere. Part of the images has a folder of its own."""
        limit = "" if self.limit is None else f"-limit-{self.limit}"
        return self.out or (self.run / f"{what}-{self.data}-{self.split}{limit}" if self.run else None)

    def publish_as(
        self,
        kind: Literal["localization", "corruptions"],
        result: Any,
        *,
        archive: Path | None = None,
        draw: "Callable[[], Figure] | None" = None,
    ) -> None:
        """Put the table, and what `draw` draws, among the documents, where that was asked for."""
        if self.publish:
            from resattn.experiments.publishing import publish_measurement

            mode = f"--corruption-archive={archive.name}" if archive else f"--{kind}"
            publish_measurement(
                kind,
                result.to_json(),
                self.publish,
                source=self.source,
                options=[mode, *self.options],
                drawing=draw() if draw else None,
            )

    def tell(self, result: Any, show: Callable[[Any], None], folder: Path | None, files: str) -> None:
        """Print a result: one JSON object, or a table and where the files are."""
        if self.json_output:
            print(json.dumps(result.to_json()))
            return
        show(result)
        if folder:
            print_line(f"\n{files} are in [bold]{plain(str(folder))}[/bold].")


def _classify(
    network: "ResidualAttentionNetwork", asked: _Asked, *, flip: Literal["none", "average"]
) -> None:
    from resattn.evaluation import classification
    from resattn.evaluation.mistakes import write_answers

    images, execution = asked.images(), asked.execution
    result = classification.evaluate(network, images, execution=execution, flip=flip, **asked.batch)
    folder = asked.folder("evaluation")
    if folder:
        title = f"{result.model} on {result.data}"
        write_answers(network, images, result.answers, folder, execution=execution, title=title)
        classification.write_results(result, folder)
    asked.tell(result, print_scores, folder, "Tables by class and by image, confusion and mistakes")


def _localize(network: "ResidualAttentionNetwork", asked: _Asked) -> None:
    from resattn.data.held_out import HELD_OUT, KEPT
    from resattn.data.packed import open_split
    from resattn.evaluation.localization import evaluate_localization, write_localization

    if asked.labelled:
        raise ResattnError(
            f"--localization needs boxes, and {asked.data} has none", "leave out --data, or name a data set"
        )
    if asked.split in (TUNED_ON, KEPT, HELD_OUT):
        raise ResattnError(
            f"thresholds are tuned on the boxes of {TUNED_ON}, so they cannot be scored there",
            "choose another --split",
        )
    result = evaluate_localization(
        network,
        asked.images(),
        tuning_split=open_split(asked.data, TUNED_ON),
        execution=asked.execution,
        limit=asked.limit,
        **asked.batch,
    )
    folder = asked.folder("localization")
    if folder:
        write_localization(result, folder)
    asked.publish_as("localization", result)
    asked.tell(result, print_localization, folder, "Figure and table")


def _corrupt(network: "ResidualAttentionNetwork", asked: _Asked, archive: Path | None) -> None:
    from resattn.evaluation import robustness

    prepared = asked.images()
    options: dict[str, Any] = {**asked.batch, "execution": asked.execution, "limit": asked.limit}
    if archive:
        result = robustness.evaluate_corruption_archive(network, archive, clean=prepared, **options)
    else:
        result = robustness.evaluate_corruptions(network, prepared, **options)
    folder = asked.folder("corruption-archive" if archive else "corruptions")
    if folder:
        robustness.write_robustness(result, folder)
    # Without examples: pictures of the data are not ours to publish.
    draw = partial(robustness.draw_robustness, result, examples=False)
    asked.publish_as("corruptions", result, archive=archive, draw=draw)
    asked.tell(result, print_robustness, folder, "Figure and table")


def _submit(
    network: "ResidualAttentionNetwork", asked: _Asked, path: Path, *, flip: Literal["none", "average"]
) -> None:
    from resattn.evaluation.submission import write_submission

    split = asked.images()
    lines = write_submission(network, split, path, execution=asked.execution, flip=flip, **asked.batch)
    print_line(f"{lines:,} predictions for {asked.data} {asked.split} are in {plain(str(path))}")

"""The verb `resattn explain`: arguments in, a figure and arrays for each image, a printed answer."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from cyclopts import Parameter

from resattn.errors import ResattnError
from resattn.tables import console

if TYPE_CHECKING:
    from resattn.evaluation.explanation import Explanation
    from resattn.models.network import ResidualAttentionNetwork
    from resattn.serving.predictor import Prediction, Predictor

# Pixels of the picture below the maps, which are enlarged to it: what a network sees may be as small as 64.
PICTURE = 320
# Of the contact sheet, which stays a picture one can look at.
SHEET_IMAGES = 60
SHEET = "sheet.png"


def explain(
    paths: Annotated[list[str], Parameter(help="Image files or folders of them; a network may stand first.")],
    /,
    *,
    model: str | None = None,
    out: Path = Path("explanations"),
    top: int = 5,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """See where a network looks in images: masks, saliency with a box around it, Grad-CAM, the likeliest classes.

    For each image a figure, NAME-explanation.png, and the arrays behind it, NAME-explanation.npz; for several also
    sheet.png. Maps and boxes are over what the network sees: the centre square of the image, scaled to the network's
    size. The network is chosen as in `resattn predict`.

    Parameters
    ----------
    model
        A run folder, a .safetensors file, or the name of a model with weights. Every path is then an image.
    out
        Folder for the files.
    top
        How many classes to name.
    json_output
        Print one JSON object a line, one line an image.
    """
    from resattn.data.image_streams import iter_image_files
    from resattn.models.loading import load, network_and_images
    from resattn.progress import track
    from resattn.serving.predictor import Predictor

    if top < 1:
        raise ResattnError(f"top is {top}", "ask for 1 class or more")
    source, images = network_and_images(paths, model=model)
    targets = _targets(list(iter_image_files(images)), out)
    network = load(source)
    predictor = Predictor(network)
    done: list[Explained] = []
    try:
        work = _explained(network, predictor, targets, top)
        for one in track(work, total=len(targets), description="explaining"):
            done.append(one)
    finally:
        # Only now: on a terminal a line between would go where the progress bar is.
        _print(done, predictor.size, json_output=json_output)
    if len(done) > 1:
        _write_sheet(done, out / SHEET, network)
    if not json_output:
        console.print(f"\nFigures and arrays are in [bold]{out}[/bold].")


@dataclass(frozen=True, eq=False)
class Explained:
    """One image whose files are written: what is printed of it, and what the contact sheet draws.

    picture: uint8 RGB, what the network saw, larger; None for images that no longer go onto the sheet.
    """

    prediction: "Prediction"
    source: Path
    figure: Path
    arrays: Path
    picture: npt.NDArray[np.uint8] | None
    saliency: npt.NDArray[np.float32] | None
    grad_cam: npt.NDArray[np.float32] | None
    box: npt.NDArray[np.float64] | None

    def to_json(self) -> dict[str, Any]:
        """One JSON object; the box is xyxy in pixels of the square the network saw, edges, or null."""
        return {
            **self.prediction.to_json(),
            "source": str(self.source),
            "box": None if self.box is None else self.box.tolist(),
            "figure": str(self.figure),
            "arrays": str(self.arrays),
        }


def _targets(files: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """For each image the path of its files, without suffix: its name, numbered where several share it.

    Raises ResattnError where a figure would take the place of one of the images.
    """
    targets = []
    taken: set[str] = set()
    images = {file.resolve() for file in files}
    for file in files:
        name, number = file.stem, 1
        while name.casefold() in taken:  # some file systems do not tell a.png from A.PNG
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.casefold())
        targets.append((file, out / f"{name}-explanation"))
    for path in [_with(target, ".png") for _, target in targets] + [out / SHEET]:
        if path.resolve() in images:
            raise ResattnError(
                f"{path} is one of the images and would be overwritten", "choose another --out"
            )
    return targets


def _with(target: Path, suffix: str) -> Path:
    # Not with_suffix, which would cut off what follows the last dot of the name.
    return target.with_name(target.name + suffix)


def _explained(
    network: "ResidualAttentionNetwork",
    predictor: "Predictor",
    targets: Sequence[tuple[Path, Path]],
    top: int,
) -> Iterator[Explained]:
    """Explain image after image; each is yielded when its files are written."""
    from resattn import figures
    from resattn.evaluation.explanation import explain as explain_pixels
    from resattn.evaluation.inference import model_name
    from resattn.serving.predictor import Predictor

    larger = Predictor(network, execution=predictor.execution, size=max(PICTURE, predictor.size))
    for number, (file, target) in enumerate(targets):
        pixels = predictor.pixels(file)
        picture = larger.pixels(file)
        (prediction,) = predictor.predict(pixels, top)
        (explanation,) = explain_pixels(network, pixels[None], execution=predictor.execution)
        if number == 0:
            _tell_what_is_missing(explanation)
        _write_arrays(explanation, network, _with(target, ".npz"))
        drawing = figures.explanation_sheet(
            picture,
            prediction.descriptions,
            prediction.probabilities,
            explanation.masks,
            saliency=explanation.saliency,
            box=explanation.box,
            grad_cam=explanation.grad_cam,
            title=file.name,
            subtitle=f"{model_name(network)}, centre square at {predictor.size} x {predictor.size} pixels",
        )
        figures.save(drawing, _with(target, ".png"))
        yield Explained(
            prediction=prediction,
            source=file,
            figure=_with(target, ".png"),
            arrays=_with(target, ".npz"),
            picture=picture if number < SHEET_IMAGES else None,
            saliency=explanation.saliency,
            grad_cam=explanation.grad_cam,
            box=explanation.box,
        )


def _tell_what_is_missing(explanation: "Explanation") -> None:
    if explanation.saliency is None:
        print("this network has no masks that tell places: no saliency and no box", file=sys.stderr)
    if explanation.grad_cam is None:
        print("Grad-CAM is left out; it comes with: pip install 'resattn[explain]'", file=sys.stderr)


def _write_arrays(explanation: "Explanation", network: "ResidualAttentionNetwork", path: Path) -> None:
    """The arrays of one image: masks by their keys, probabilities, labels, and what there is of the others."""
    from resattn.evaluation.inference import configuration
    from resattn.files import whole_file

    labels = configuration(network).get("label_names") or range(len(explanation.probabilities))
    arrays: dict[str, npt.NDArray[Any]] = {
        **explanation.masks,
        "probabilities": explanation.probabilities,
        "labels": np.array([str(label) for label in labels]),
    }
    for name in ("saliency", "box", "grad_cam"):
        found = getattr(explanation, name)
        if found is not None:
            arrays[name] = found
    # Through an open file, because NumPy would add a suffix to the temporary name.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _write_sheet(done: Sequence[Explained], path: Path, network: "ResidualAttentionNetwork") -> None:
    """The contact sheet of the first images."""
    from resattn import figures
    from resattn.evaluation.inference import model_name

    shown = [one for one in done if one.picture is not None]
    left_out = f"; the first {len(shown)} of {len(done):,}" if len(shown) < len(done) else ""
    drawing = figures.explanations_contact_sheet(
        [one.picture for one in shown if one.picture is not None],
        [one.prediction.descriptions for one in shown],
        [one.prediction.probabilities for one in shown],
        saliency=[one.saliency for one in shown],
        boxes=[one.box for one in shown],
        grad_cam=[one.grad_cam for one in shown],
        title=f"Where {model_name(network)} looks",
        subtitle=f"boxes from the masks{left_out}",
    )
    figures.save(drawing, path)


def _print(done: Sequence[Explained], size: int, *, json_output: bool) -> None:
    for one in done:
        if json_output:
            print(json.dumps(one.to_json()))
            continue
        console.print(f"[bold]{one.source}[/bold]")
        for label, description, probability in one.prediction.rows():
            console.print(f"  {probability:6.1%}  {description}  [dim]{label}[/dim]")
        if one.box is not None:
            left, top, right, bottom = (round(edge) for edge in one.box.tolist())
            console.print(f"  box     {left}, {top} to {right}, {bottom} of {size} x {size} pixels")

"""The verb `resattn explain`: arguments in, a figure and arrays for each image, a printed answer."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from resattn.errors import ResattnError
from resattn.tables import console, plain, print_classes, print_line, print_prediction

if TYPE_CHECKING:
    from resattn.serving.explained_files import Explained


def explain(
    paths: Annotated[list[str], Parameter(help="Image files or folders of them; a network may stand first.")],
    /,
    *,
    model: str | None = None,
    out: Path = Path("explanations"),
    label: Annotated[str | None, Parameter(name="--class")] = None,
    top: int = 5,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """See where a network looks in images: masks, saliency with a box around it, Grad-CAM, the likeliest classes.

    For each image a figure, NAME-explanation.png, and the arrays behind it, NAME-explanation.npz; for several also
    sheet.png. Maps and boxes are over what the network sees: the centre square of the image, scaled to the network's
    size. The network is chosen as in `resattn predict`, and images that cannot be read are left out as there.

    Parameters
    ----------
    model
        A run folder, a .safetensors file, or the name of a model with weights. Every path is then an image.
    out
        Folder for the files.
    label
        The class to explain in every image, by id or name: why not a cat? Each image's likeliest where left out.
    top
        How many classes to name.
    json_output
        Print one JSON object a line, one line an image.
    """
    from resattn.data.image_streams import iter_image_files
    from resattn.evaluation.inference import class_number
    from resattn.models.loading import load, network_and_images
    from resattn.progress import track
    from resattn.serving.explained_files import SHEET, Explained, explain_files, output_paths, write_sheet
    from resattn.serving.prediction import Unreadable, require_readable

    if top < 1:
        raise ResattnError(f"top is {top}", "ask for 1 class or more")
    source, images = network_and_images(paths, model=model)
    files = list(iter_image_files(images))
    targets = output_paths(files, out)
    network = load(source)
    if label is not None:
        class_number(network, label)  # raises for one it does not know, before the first image
    outcomes: list[Explained | Unreadable] = []
    try:
        work = explain_files(network, files, targets, label=label, top=top)
        for one in track(work, total=len(files), description="explaining"):
            outcomes.append(one)
    finally:
        done = [one for one in outcomes if isinstance(one, Explained)]
        if done and done[0].box is None:
            print("this network has no masks that tell places: no saliency and no box", file=sys.stderr)
        # Only now: on a terminal a line between would go where the progress bar is.
        if json_output:
            for one in outcomes:
                print(json.dumps(one.to_json()))
        else:
            _print(done, asked=label is not None)
    if len(done) > 1:
        write_sheet(done, out / SHEET, network, label=label)
    if done and not json_output:
        print_line(f"\nFigures and arrays are in [bold]{plain(str(out))}[/bold].")
    require_readable([one for one in outcomes if isinstance(one, Unreadable)])


def _print(done: "Sequence[Explained]", *, asked: bool) -> None:
    for one in done:
        print_prediction(one.prediction)
        if asked:
            console.print("  the maps are for:")
            print_classes(one.explained)
        if one.box is not None:
            left, top, right, bottom = (round(edge) for edge in one.box.tolist())
            console.print(f"  box     {left}, {top} to {right}, {bottom} of {one.size} x {one.size} pixels")

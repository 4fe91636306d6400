"""Explanations of image files: for each a figure and the arrays behind it, for several a contact sheet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from resattn import figures
from resattn.errors import ResattnError
from resattn.evaluation.explanation import Explanation
from resattn.evaluation.explanation import explain as explain_pixels
from resattn.evaluation.inference import class_names, model_name
from resattn.files import whole_file
from resattn.models.network import ResidualAttentionNetwork
from resattn.serving.prediction import Prediction, Unreadable
from resattn.serving.predictor import Predictor

# Pixels of the picture below the maps, which are enlarged to it: what a network sees may be as small as 64.
PICTURE = 320
# Of the contact sheet, which stays a picture one can look at.
SHEET_IMAGES = 60
SHEET = "sheet.png"
# Bytes of an image's name that its files keep. File systems take names of 255, with what files are called until they
# are whole.
LONGEST_STEM = 180


@dataclass(frozen=True, eq=False)
class Explained:
    """One image whose files are written: what is printed of it, and what the contact sheet draws.

    prediction: the likeliest classes. explained: the class that the maps are for. box: xyxy in pixels of the square of
    `size` pixels that the network saw, edges; None for a network without masks. sheet: what goes onto the contact
    sheet; None for images that no longer do.
    """

    prediction: Prediction
    explained: Prediction
    box: npt.NDArray[np.float64] | None
    size: int
    figure: Path
    arrays: Path
    sheet: "_Card | None"

    def to_json(self) -> dict[str, Any]:
        """One JSON object; the box is as above, or null."""
        return {
            **self.prediction.to_json(),
            "explained": self.explained.labels[0],
            "box": None if self.box is None else self.box.tolist(),
            "figure": str(self.figure),
            "arrays": str(self.arrays),
        }


class _Card(NamedTuple):
    """What the network saw, uint8 RGB, larger; and the maps over it, None without masks."""

    picture: npt.NDArray[np.uint8]
    saliency: npt.NDArray[np.float32] | None
    grad_cam: npt.NDArray[np.float32]


def output_paths(files: Sequence[Path], out: Path) -> list[Path]:
    """For each image the path of its files in `out`, without suffix: its name, cut where it is long, numbered where
    several share it.

    Raises ResattnError where a figure would take the place of one of the images.
    """
    targets = []
    taken: set[str] = set()
    images = {file.resolve() for file in files}
    for file in files:
        stem = _short(file.stem)
        name, number = stem, 1
        while name.casefold() in taken:  # some file systems do not tell a.png from A.PNG
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        targets.append(out / f"{name}-explanation")
    for path in [_with(target, ".png") for target in targets] + [out / SHEET]:
        if path.resolve() in images:
            raise ResattnError(
                f"{path} is one of the images and would be overwritten", "choose another --out"
            )
    return targets


def explain_files(
    network: ResidualAttentionNetwork,
    files: Sequence[Path],
    targets: Sequence[Path],
    *,
    label: str | None = None,
    top: int = 5,
) -> Iterator[Explained | Unreadable]:
    """Explain image after image; each is yielded when its two files, `targets` with a suffix, are written.

    `label` is as in `resattn.evaluation.explanation.explain`. `top` likeliest classes are told.
    """
    predictor = Predictor(network)
    names = class_names(network)
    larger = Predictor(network, execution=predictor.execution, size=max(PICTURE, predictor.size))
    done = 0
    for file, target in zip(files, targets, strict=True):
        try:
            pixels, picture = predictor.pixels(file), larger.pixels(file)
        except ResattnError as error:
            yield Unreadable(str(file), error)
            continue
        (explanation,) = explain_pixels(network, pixels[None], label=label, execution=predictor.execution)
        done += 1
        explained = Explained(
            prediction=_prediction(file, explanation, explanation.likeliest(top), names),
            explained=_prediction(file, explanation, [explanation.explained], names),
            box=explanation.box,
            size=predictor.size,
            figure=_with(target, ".png"),
            arrays=_with(target, ".npz"),
            sheet=_Card(picture, explanation.saliency, explanation.grad_cam)
            if done <= SHEET_IMAGES
            else None,
        )
        _write_arrays(explanation, names[0], explained.arrays)
        seen = f"{model_name(network)}, centre square at {predictor.size} x {predictor.size} pixels"
        asked = f"; maps for {explained.explained.descriptions[0]}" if label else ""
        _write_figure(explained, picture, explanation, title=file.name, subtitle=seen + asked)
        yield explained


def write_sheet(
    done: Sequence[Explained], path: Path, network: ResidualAttentionNetwork, *, label: str | None = None
) -> None:
    """The contact sheet of the first images; `label` is what `explain_files` was asked for."""
    shown = [(one, one.sheet) for one in done if one.sheet is not None]
    facts = [f"maps for {done[0].explained.descriptions[0]}"] if label else []
    facts += ["boxes from the masks"] if any(one.box is not None for one in done) else []
    facts += [f"the first {len(shown)} of {len(done):,}"] if len(shown) < len(done) else []
    drawing = figures.explanations_contact_sheet(
        [card.picture for _, card in shown],
        [one.prediction.descriptions for one, _ in shown],
        [one.prediction.probabilities for one, _ in shown],
        saliency=[card.saliency for _, card in shown],
        boxes=[one.box for one, _ in shown],
        grad_cam=[card.grad_cam for _, card in shown],
        title=f"Where {model_name(network)} looks",
        subtitle="; ".join(facts),
    )
    figures.save(drawing, path)


def _short(stem: str) -> str:
    encoded = stem.encode("utf-8", "surrogateescape")
    return stem if len(encoded) <= LONGEST_STEM else encoded[:LONGEST_STEM].decode("utf-8", "ignore")


def _with(target: Path, suffix: str) -> Path:
    # Not with_suffix, which would cut off what follows the last dot of the name.
    return target.with_name(target.name + suffix)


def _prediction(
    file: Path,
    explanation: Explanation,
    classes: Iterable[int],
    names: tuple[Sequence[str], Sequence[str]],
) -> Prediction:
    numbers = tuple(classes)
    labels, descriptions = (tuple(kind[number] for number in numbers) for kind in names)
    shares = tuple(float(explanation.probabilities[number]) for number in numbers)
    return Prediction(str(file), labels, descriptions, shares)


def _write_figure(
    one: Explained,
    picture: npt.NDArray[np.uint8],
    explanation: Explanation,
    *,
    title: str,
    subtitle: str,
) -> None:
    drawing = figures.explanation_sheet(
        picture,
        one.prediction.descriptions,
        one.prediction.probabilities,
        explanation.masks,
        saliency=explanation.saliency,
        box=explanation.box,
        grad_cam=explanation.grad_cam,
        title=title,
        subtitle=subtitle,
    )
    figures.save(drawing, one.figure)


def _write_arrays(explanation: Explanation, labels: Sequence[str], path: Path) -> None:
    """The arrays of one image: masks by their keys, probabilities, labels, and what there is of the others."""
    arrays: dict[str, npt.NDArray[Any]] = {
        **explanation.masks,
        "probabilities": explanation.probabilities,
        "labels": np.array(labels),
        "explained": np.array(labels[explanation.explained]),
    }
    for name in ("saliency", "box", "grad_cam"):
        found = getattr(explanation, name)
        if found is not None:
            arrays[name] = found
    # Through an open file, because NumPy would add a suffix to the temporary name.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

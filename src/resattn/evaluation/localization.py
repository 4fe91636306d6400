"""How well a network's masks find the object: readings of them, and baselines, against the boxes of a data set.

The box of a saliency map depends on a threshold. It is tuned for each reading on boxes of training images, and what
is reported is of other images: the protocol of Choe et al. 2020 (arXiv 2001.07437), because a threshold chosen on the
boxes that are then scored flatters. The baselines see no image (a map of one value; a blob in the middle) or no mask
(Grad-CAM): boxes are large and central, and a reading that does not beat the blob has found nothing.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resattn import figures
from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.evaluation.grad_cam import grad_cam
from resattn.evaluation.inference import (
    evenly_spaced,
    model_name,
    network_input,
    progress_bar,
    require_same_classes,
    row_batches,
)
from resattn.evaluation.localization_scores import BoxAccuracy, EnergyInBox, PointingGame
from resattn.evaluation.saliency import (
    READINGS,
    combined_saliency,
    contribution,
    look,
    normalize,
    running_with_gradients,
    stage_saliency,
)
from resattn.files import whole_text_file
from resattn.hardware import Execution, reference_execution
from resattn.models.attention_module import AttentionModule
from resattn.models.network import ResidualAttentionNetwork

THRESHOLDS = tuple(float(step) for step in np.arange(1, 40) / 40)
Kind = Literal["baseline", "masks"]
# Standard deviation of the centred blob, as a share of each side.
BLOB = 1 / 4
UNIFORM, CENTRE, GRAD_CAM, COMBINED = "uniform map", "centred blob", "Grad-CAM", "combined"


@dataclass(frozen=True)
class LocalizationScore:
    """One reading: `pointing`, `energy` and `box_accuracy` as PointingGame, EnergyInBox and BoxAccuracy say.

    `threshold` is the one that gave the most right boxes on the tuning images, `tuning_box_accuracy` how many.
    """

    name: str
    kind: Kind
    pointing: float
    energy: float
    box_accuracy: float
    threshold: float
    tuning_box_accuracy: float


@dataclass(frozen=True)
class LocalizationResult:
    """What `evaluate_localization` found: a score a reading, baselines first. `seconds` is wall-clock time."""

    data: str
    split: str
    images: int
    tuning_split: str
    tuning_images: int
    scores: tuple[LocalizationScore, ...]
    model: str
    seconds: float
    precision: str
    device: str

    def to_json(self) -> dict[str, Any]:
        """The result as one object for localization.json."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class Board:
    """The three scores of one reading, batch by batch."""

    def __init__(self, thresholds: tuple[float, ...], device: torch.device) -> None:
        self.thresholds = thresholds
        self.pointing = PointingGame().to(device)
        self.energy = EnergyInBox().to(device)
        self.boxes = BoxAccuracy(thresholds).to(device)

    def update(self, saliency: Tensor, boxes: Tensor) -> None:
        """Add a batch: N x H x W in [0, 1], and N x 4, xyxy in pixels."""
        for metric in (self.pointing, self.energy, self.boxes):
            metric.update(saliency, boxes)

    def best(self) -> tuple[float, float]:
        """The threshold with the most right boxes, the lowest of equals, and their share."""
        # torchmetrics makes a plain number of a single share.
        shares = self.boxes.compute().reshape(-1)
        place = int(shares.argmax())
        return self.thresholds[place], float(shares[place])


def evaluate_localization(
    network: ResidualAttentionNetwork,
    split: PackedSplit,
    *,
    tuning_split: PackedSplit,
    tuning_images: int = 5000,
    batch_size: int = 64,
    execution: Execution | None = None,
    progress: bool = True,
    limit: int | None = None,
) -> LocalizationResult:
    """Score every reading of the masks, and the baselines, on the boxes of `split`.

    Thresholds are tuned on `tuning_images` images of `tuning_split`, as many of each class as there are, always the
    same. Readings explain the class the network finds likeliest, right or wrong. `limit` takes that many images of
    `split`, spread over its classes. A network without masks that tell places is scored by Grad-CAM alone. Raises
    ResattnError for a split without boxes and classes that are not the network's.
    """
    require_same_classes(network, split)
    execution = execution or reference_execution()
    tuning_rows = _rows_with_boxes(tuning_split, tuning_images)
    rows = _rows_with_boxes(split, limit)
    started = time.perf_counter()
    options: dict[str, Any] = {"batch_size": batch_size, "execution": execution, "progress": progress}
    tuned = _measure(network, tuning_split, tuning_rows, {}, **options)
    chosen = {name: board.best() for name, board in tuned.items()}
    measured = _measure(network, split, rows, {name: best[0] for name, best in chosen.items()}, **options)
    return LocalizationResult(
        data=split.data,
        split=split.split,
        images=len(rows),
        tuning_split=tuning_split.split,
        tuning_images=len(tuning_rows),
        scores=tuple(_score(name, board, *chosen[name]) for name, board in measured.items()),
        model=model_name(network),
        seconds=time.perf_counter() - started,
        precision=execution.precision,
        device=str(execution.device),
    )


def write_localization(result: LocalizationResult, folder: Path) -> None:
    """Write localization.png and, last, localization.json (`to_json()`), each whole or not at all.

    Missing folders are made. Raises ResattnError where the folder cannot be written.
    """
    drawing = figures.localization_scores(
        [score.name for score in result.scores],
        {
            "pointing": [score.pointing for score in result.scores],
            "energy": [score.energy for score in result.scores],
            "box accuracy": [score.box_accuracy for score in result.scores],
        },
        baselines=[score.kind == "baseline" for score in result.scores],
        title=f"Where {result.model} looks, on {result.data} {result.split}",
        subtitle=f"{result.images:,} images with boxes; thresholds tuned on {result.tuning_images:,} of "
        f"{result.tuning_split}; dashed: the best baseline",
    )
    figures.save(drawing, folder / "localization.png")
    with whole_text_file(folder / "localization.json") as file:
        file.write(json.dumps(result.to_json(), indent=2) + "\n")


def saliency_maps(network: ResidualAttentionNetwork, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Every reading, one after the other: its name and its maps, N x H x W in [0, 1].

    images: N x 3 x H x W in [0, 1]. The network has to be in `running_with_gradients`.
    """
    size = (images.shape[-2], images.shape[-1])
    seen = look(network, images)
    yield UNIFORM, torch.ones(len(images), *size, device=images.device)
    yield CENTRE, centred_blob(*size, device=images.device).expand(len(images), -1, -1)
    yield GRAD_CAM, grad_cam(network, images, seen.predicted)
    modules = (module for module in network.modules() if isinstance(module, AttentionModule))
    naive = any(module.learning == "naive" for module in modules)
    for name, reading in READINGS.items():
        if naive and reading is contribution:  # it is of (1 + M) T
            continue
        for stage, saliency in stage_saliency(seen, reading, size).items():
            yield f"{stage}: {name}", saliency
    if seen.masks:
        yield COMBINED, combined_saliency(seen, look(network, images.flip(3), seen.predicted), size)


def centred_blob(height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """A Gaussian in the middle, its standard deviation a quarter of each side: 1 x H x W in [0, 1]."""
    down, across = (
        ((torch.arange(length, device=device) + 0.5) / length - 0.5) ** 2 for length in (height, width)
    )
    return normalize(torch.exp(-(down[:, None] + across[None, :]) / (2 * BLOB**2))[None])


def _measure(
    network: ResidualAttentionNetwork,
    split: PackedSplit,
    rows: npt.NDArray[np.int64],
    thresholds: Mapping[str, float],
    *,
    batch_size: int,
    execution: Execution,
    progress: bool,
) -> dict[str, Board]:
    """The boards of all readings, each at its threshold, or at all of them where it has none."""
    boards: dict[str, Board] = {}
    shown = progress_bar(progress, len(rows), f"localizing on {split.data} {split.split}")
    with running_with_gradients(network, execution), shown as advance:
        for batch in row_batches(rows, batch_size):
            boxes = torch.from_numpy(_boxes(split)[batch]).to(execution.device)
            for name, saliency in saliency_maps(network, network_input(split.images[batch], execution)):
                if name not in boards:
                    tried = (thresholds[name],) if thresholds else THRESHOLDS
                    boards[name] = Board(tried, execution.device)
                boards[name].update(saliency, boxes)
            advance(len(batch))
    return boards


def _score(name: str, board: Board, threshold: float, tuning_box_accuracy: float) -> LocalizationScore:
    return LocalizationScore(
        name=name,
        kind="baseline" if name in (UNIFORM, CENTRE, GRAD_CAM) else "masks",
        pointing=float(board.pointing.compute()),
        energy=float(board.energy.compute()),
        box_accuracy=board.best()[1],
        threshold=threshold,
        tuning_box_accuracy=tuning_box_accuracy,
    )


def _rows_with_boxes(split: PackedSplit, limit: int | None) -> npt.NDArray[np.int64]:
    """Images with a box, class after class, evenly spaced where `limit` leaves some out."""
    if split.boxes is None or not (usable := _has_area(split.boxes)).any():
        raise ResattnError(
            f"the {split.split} split of {split.data} has no boxes, so there is nothing to compare with",
            "score localization on a data set with boxes: tiny-imagenet, shapes",
        )
    by_class = np.argsort(split.labels, kind="stable")
    return evenly_spaced(by_class[usable[by_class]], limit)


def _has_area(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    # NaN, which stands for no box, compares as False.
    return np.asarray((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))


def _boxes(split: PackedSplit) -> npt.NDArray[np.float32]:
    return cast("npt.NDArray[np.float32]", split.boxes)

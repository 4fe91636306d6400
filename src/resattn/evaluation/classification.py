"""How often a network is right, how sure it is, and which classes it mixes up."""

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchmetrics.classification import (
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassStatScores,
)

from resattn import figures
from resattn.data.packed import PackedSplit
from resattn.evaluation.inference import (
    Flip,
    average_with_mirrored,
    labelled_rows,
    log_probabilities,
    model_name,
    network_input,
    progress_bar,
    require_same_classes,
    row_batches,
    running,
)
from resattn.evaluation.mistakes import AnswerLog, Answers
from resattn.files import whole_text_file
from resattn.hardware import Execution, reference_execution

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """Accuracies as fractions of 1, mean cross-entropy in nats, calibration error as a fraction of 1.

    `top5` counts the right class among the five likeliest (among all classes where there are fewer). `ece` is
    the expected calibration error over 15 equal bins of confidence (Guo et al. 2017, arXiv 1706.04599,
    section 2).
    """

    top1: float
    top5: float
    loss: float
    ece: float


@dataclass(frozen=True)
class ClassScore:
    """One class of the table: its images, and the shares of them recognised (None where it has no image)."""

    id: str
    name: str
    images: int
    top1: float | None
    top5: float | None


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """What `evaluate` found.

    `top1`, `top5`, `loss` and `ece` (see Scores) are of the single view: each image once, as it is.
    `flip_average` is of the mean probability of image and mirror image, where that was asked for.
    `confusion[i, j]` counts images of class i that were taken for class j, and `answers` says it image by image.
    `seconds` is wall-clock time.
    """

    data: str
    split: str
    images: int
    top1: float
    top5: float
    loss: float
    ece: float
    per_class: tuple[ClassScore, ...]
    confusion: npt.NDArray[np.int64]
    answers: Answers
    seconds: float
    model: str
    precision: str
    device: str
    flip_average: Scores | None = None

    @property
    def class_mean_top1(self) -> float:
        """The mean of the top-1 of the classes that have images: a frequent class counts no more than a rare one."""
        return float(np.mean([row.top1 for row in self.per_class if row.top1 is not None]))

    def to_json(self) -> dict[str, Any]:
        """The scalar results as one object for results.json; `flip_average` only where it was measured."""
        fields: dict[str, Any] = {
            "data": self.data,
            "split": self.split,
            "images": self.images,
            "classes": len(self.per_class),
            "top1": self.top1,
            "top5": self.top5,
            "class_mean_top1": self.class_mean_top1,
            "loss": self.loss,
            "ece": self.ece,
            "model": self.model,
            "seconds": round(self.seconds, 3),
            "precision": self.precision,
            "device": self.device,
        }
        if self.flip_average is not None:
            fields["flip_average"] = asdict(self.flip_average)
        return fields


class ScoreMeter:
    """Streams batches into Scores, counting every image once however short the last batch is."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        # torchmetrics' own check of every batch would wait for the device; `evaluate` has checked the labels. Nor may
        # it wait for other processes: the one that evaluates has all images.
        options: dict[str, Any] = {
            "num_classes": num_classes,
            "validate_args": False,
            "sync_on_compute": False,
        }
        self._hits = MulticlassStatScores(top_k=min(5, num_classes), average="none", **options).to(device)
        self._ece = MulticlassCalibrationError(n_bins=CALIBRATION_BINS, norm="l1", **options).to(device)
        self._confusion = MulticlassConfusionMatrix(**options).to(device)
        self._loss_sum = 0.0

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        """Add a batch: N x classes log-probabilities and N labels."""
        probabilities = log_probs.exp()
        for metric in (self._hits, self._confusion):
            metric.update(probabilities, labels)
        # Below 1, because torchmetrics has a bin of its own for 1, where the last one ends with it.
        self._ece.update(probabilities.clamp(max=1 - 2**-24), labels)
        # Summed in double precision: a running float32 mean would depend on how images fall into batches.
        self._loss_sum -= float(log_probs.gather(1, labels[:, None]).double().sum())

    def confusion(self) -> npt.NDArray[np.int64]:
        """Counts, classes x classes: row the right class, column the predicted one."""
        counts = self._confusion.compute().reshape(self.num_classes, self.num_classes)
        return counts.cpu().numpy().astype(np.int64)

    def top5_hits(self) -> npt.NDArray[np.int64]:
        """Images of each class that had it among the five likeliest."""
        true_positives = self._hits.compute().reshape(self.num_classes, 5)[:, 0]
        return true_positives.cpu().numpy().astype(np.int64)

    def scores(self) -> Scores:
        """The scores of all images so far."""
        confusion = self.confusion()
        images = int(confusion.sum())
        return Scores(
            top1=int(np.trace(confusion)) / images,
            top5=int(self.top5_hits().sum()) / images,
            loss=self._loss_sum / images,
            ece=float(self._ece.compute()),
        )


def evaluate(
    network: nn.Module,
    split: PackedSplit,
    *,
    batch_size: int = 256,
    execution: Execution | None = None,
    flip: Flip = "none",
    progress: bool = True,
    limit: int | None = None,
) -> ClassificationResult:
    """Measure `network` on the labelled images of `split`, each at its stored size.

    `execution` is float32 on the best device unless given. `flip="average"` measures, beside the single view,
    the mean of image and mirror image. `limit` takes that many images, evenly spaced over the split. The
    network is moved to the device; its training mode is put back. Raises ResattnError for a split without
    labels, classes that are not the network's, and output that is not finite.
    """
    require_same_classes(network, split)
    rows = labelled_rows(split, limit)
    execution = execution or reference_execution()
    single, averaged = (ScoreMeter(len(split.class_ids), execution.device) for _ in range(2))
    log = AnswerLog()
    started = time.perf_counter()
    shown = progress_bar(progress, len(rows), f"evaluating on {split.data} {split.split}")
    with running(network, execution), shown as advance:
        for batch in row_batches(rows, batch_size):
            images = network_input(split.images[batch], execution)
            labels = torch.from_numpy(split.labels[batch].astype(np.int64)).to(execution.device)
            log_probs = log_probabilities(network(images))
            single.update(log_probs, labels)
            log.add(log_probs, labels)
            if flip == "average":
                averaged.update(average_with_mirrored(network, images, log_probs), labels)
            advance(len(batch))
    return ClassificationResult(
        data=split.data,
        split=split.split,
        images=len(rows),
        **asdict(single.scores()),
        per_class=_per_class(split, single),
        confusion=single.confusion(),
        answers=log.answers(rows),
        seconds=time.perf_counter() - started,
        model=model_name(network),
        precision=execution.precision,
        device=str(execution.device),
        flip_average=averaged.scores() if flip == "average" else None,
    )


def _per_class(split: PackedSplit, meter: ScoreMeter) -> tuple[ClassScore, ...]:
    confusion = meter.confusion()
    columns = (confusion.sum(axis=1), np.diagonal(confusion), meter.top5_hits())
    return tuple(
        ClassScore(
            id=class_id,
            name=name,
            images=int(images),
            top1=int(first) / int(images) if images else None,
            top5=int(five) / int(images) if images else None,
        )
        for class_id, name, images, first, five in zip(
            split.class_ids, split.class_names, *columns, strict=True
        )
    )


def write_results(result: ClassificationResult, directory: Path) -> None:
    """Write per_class.csv, confusion.png and, last, results.json (`to_json()`), each whole or not at all.

    Missing folders are made. Raises ResattnError where the folder cannot be written.
    """
    with whole_text_file(directory / "per_class.csv") as file:
        _write_table(csv.writer(file, lineterminator="\n"), result.per_class)
    drawing = figures.confusion_matrix(
        result.confusion,
        [row.name for row in result.per_class],
        title=f"{result.model} on {result.data} {result.split}",
        subtitle=f"{result.images:,} images, top-1 {result.top1:.1%}, top-5 {result.top5:.1%}",
    )
    figures.save(drawing, directory / "confusion.png")
    with whole_text_file(directory / "results.json") as file:
        file.write(json.dumps(result.to_json(), indent=2) + "\n")


def _write_table(writer: Any, rows: Sequence[ClassScore]) -> None:
    writer.writerow(["id", "name", "images", "top1", "top5"])
    for row in rows:
        shares = ["" if share is None else f"{share:.6g}" for share in (row.top1, row.top5)]
        writer.writerow([row.id, row.name, row.images, *shares])

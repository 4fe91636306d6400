"""What a network answered image by image: a table of all of it, and a picture of the mistakes it was surest of."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from resattn import figures
from resattn.data.packed import PackedSplit
from resattn.evaluation.examples import examples_sheet
from resattn.files import whole_text_file, writing
from resattn.hardware import Execution

TABLE, PICTURE = "predictions.csv", "mistakes.png"
SHOWN = 8


@dataclass(frozen=True, eq=False)
class Answers:
    """One entry an image: its row in the split, the likeliest class and its probability, that of the right class."""

    rows: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32]
    right_probability: npt.NDArray[np.float32]

    def surest_mistakes(self, split: PackedSplit, count: int) -> npt.NDArray[np.int64]:
        """The rows of at most `count` images that were taken for another class, the surest answer first."""
        wrong = np.flatnonzero(self.predicted != split.labels[self.rows])
        surest = wrong[np.argsort(-self.probability[wrong], kind="stable")]
        return self.rows[surest[:count]]


class AnswerLog:
    """Collects Answers batch by batch, on the device until they are asked for."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, log_probs: Tensor, labels: Tensor) -> None:
        """Add a batch: N x classes log-probabilities and N labels."""
        best, predicted = log_probs.max(dim=1)
        right = log_probs.gather(1, labels[:, None])[:, 0]
        self._batches.append((predicted, best.exp(), right.exp()))

    def answers(self, rows: npt.NDArray[np.int64]) -> Answers:
        """All of them, which were of these rows."""
        columns = (torch.cat(column).cpu().numpy() for column in zip(*self._batches, strict=True))
        return Answers(rows, *columns)


def write_answers(
    network: nn.Module,
    split: PackedSplit,
    answers: Answers,
    folder: Path,
    *,
    execution: Execution | None = None,
    title: str = "",
) -> None:
    """Write predictions.csv, a line an image, and mistakes.png, which shows where the masks looked; none for none.

    Raises ResattnError where the folder cannot be written.
    """
    with whole_text_file(folder / TABLE) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "class", "predicted", "probability", "probability_of_class"])
        for row, predicted, *shares in zip(
            answers.rows, answers.predicted, answers.probability, answers.right_probability, strict=True
        ):
            classes = (split.class_ids[number] for number in (split.labels[row], predicted))
            writer.writerow([split.file_names[row], *classes, *(f"{share:.6g}" for share in shares)])
    mistakes = answers.surest_mistakes(split, len(answers.rows))
    if not len(mistakes):
        with writing(folder / PICTURE):
            (folder / PICTURE).unlink(missing_ok=True)
        return
    sheet = examples_sheet(
        network,
        split,
        rows=mistakes[:SHOWN],
        execution=execution,
        title=title,
        subtitle=f"the mistakes it was surest of, of {len(mistakes):,} in {len(answers.rows):,} {split.split} images",
    )
    figures.save(sheet, folder / PICTURE)

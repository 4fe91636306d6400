"""Counting right answers by family and severity, while the next batch is made."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from resattn.evaluation.corruptions import FAMILIES, SEVERITIES, Kind
from resattn.evaluation.inference import log_probabilities, network_input, running
from resattn.evaluation.pixels import Pixels
from resattn.evaluation.robustness_result import FamilyScore
from resattn.hardware import Execution

Item = TypeVar("Item")
Cell = tuple[str, int]  # a family and a severity
CLEAN: Cell = ("", 0)
KINDS: tuple[Kind, ...] = ("noise", "blur", "weather", "digital", "other")
# The kinds of those families of Tiny-ImageNet-C, and of its supplement, that are not made here.
OTHER_KINDS: Mapping[str, Kind] = {
    "glass_blur": "blur",
    "snow": "weather",
    "frost": "weather",
    "speckle_noise": "noise",
    "spatter": "weather",
    "saturate": "digital",
}


class Batch(NamedTuple):
    """Images N x H x W x 3, their N labels and cells, and by how much the progress bar advances."""

    images: Pixels
    labels: npt.NDArray[np.int64]
    cells: list[Cell]
    advance: int


class Tally:
    """Counts images and right answers by cell."""

    def __init__(self) -> None:
        self.images: Counter[Cell] = Counter()
        self.right: Counter[Cell] = Counter()

    def share(self, cell: Cell) -> float:
        """Top-1 of a cell, a fraction of 1."""
        return self.right[cell] / self.images[cell]


def measure(
    network: nn.Module,
    batches: Iterator[Batch],
    execution: Execution,
    shown: AbstractContextManager[Callable[[int], None]],
) -> Tally:
    """Run `network` over all `batches`; `shown` is a progress bar. Raises ResattnError where output is not finite."""
    tally = Tally()
    with running(network, execution), shown as advance, closing(_one_ahead(batches)) as ahead:
        for batch in ahead:
            log_probs = log_probabilities(network(network_input(batch.images, execution)))
            right = log_probs.argmax(dim=1).cpu().numpy() == batch.labels
            tally.images.update(batch.cells)
            tally.right.update(cell for cell, hit in zip(batch.cells, right, strict=True) if hit)
            advance(batch.advance)
    return tally


def _one_ahead(items: Iterator[Item]) -> Generator[Item]:
    """The items, each made in a thread while the one before it is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def scores(tally: Tally) -> tuple[FamilyScore, ...]:
    """A score a family, in the order of kinds and of FAMILIES, families that are not made here last in their kind.

    Every family has to have images at every severity.
    """
    known = list(FAMILIES)
    found = sorted(
        {family for family, _ in tally.images if family != CLEAN[0]},
        key=lambda name: (
            KINDS.index(_kind(name)),
            known.index(name) if name in known else len(known),
            name,
        ),
    )
    return tuple(
        FamilyScore(
            name,
            _kind(name),
            top1=tuple(tally.share((name, severity)) for severity in SEVERITIES),
            images=tuple(tally.images[name, severity] for severity in SEVERITIES),
        )
        for name in found
    )


def _kind(family: str) -> Kind:
    return FAMILIES[family].kind if family in FAMILIES else OTHER_KINDS.get(family, "other")

"""How much of a network's accuracy common corruptions leave: made on the spot, or read from Tiny-ImageNet-C."""

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from resattn.data.corruption_archive import open_corruption_archive
from resattn.data.packed import PackedSplit
from resattn.evaluation.corruptions import FAMILIES, SEVERITIES, corrupt
from resattn.evaluation.inference import (
    evenly_spaced,
    labelled_rows,
    model_name,
    progress_bar,
    require_same_classes,
    row_batches,
)
from resattn.evaluation.pixels import Pixels
from resattn.evaluation.robustness_archive import (
    ArchiveChoice,
    archive_batches,
    require_all_severities,
    require_fit,
    uneven,
)
from resattn.evaluation.robustness_counting import CLEAN, Batch, measure, scores
from resattn.evaluation.robustness_result import (
    EXAMPLE_SEVERITIES,
    FamilyScore,
    RobustnessResult,
    draw_robustness,
    write_robustness,
)
from resattn.hardware import Execution, reference_execution

__all__ = [
    "FamilyScore",
    "RobustnessResult",
    "draw_robustness",
    "evaluate_corruption_archive",
    "evaluate_corruptions",
    "write_robustness",
]

EXAMPLE_CANDIDATES = 16


def evaluate_corruptions(
    network: nn.Module,
    split: PackedSplit,
    *,
    batch_size: int = 256,
    execution: Execution | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> RobustnessResult:
    """Measure top-1 on the labelled images of `split`, clean and in every family and severity of `corruptions`.

    What an image becomes depends on its number in the split, not on `batch_size` or `limit`, which takes that many
    images, evenly spaced. `execution` is float32 on the best device unless given. Every image is seen 66 times (13
    families). Raises ResattnError for a split without labels, classes that are not the network's, and output that is
    not finite.
    """
    require_same_classes(network, split)
    execution = execution or reference_execution()
    rows = labelled_rows(split, limit)
    started = time.perf_counter()
    total = len(rows) * (1 + len(FAMILIES) * len(SEVERITIES))
    tally = measure(
        network,
        _made_batches(split, rows, batch_size, FAMILIES),
        execution,
        progress_bar(progress, total, f"corrupting {split.data} {split.split}"),
    )
    return RobustnessResult(
        data=split.data,
        split=split.split,
        corruptions="made here",
        images=len(rows),
        clean_top1=tally.share(CLEAN),
        families=scores(tally),
        notes=(),
        examples=_made_examples(split, rows),
        seconds=time.perf_counter() - started,
        model=model_name(network),
        precision=execution.precision,
        device=str(execution.device),
    )


def evaluate_corruption_archive(
    network: nn.Module,
    path: Path,
    *,
    clean: PackedSplit,
    batch_size: int = 256,
    execution: Execution | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> RobustnessResult:
    """Measure top-1 on Tiny-ImageNet-C at `path`, a tar file or its unpacked folder, as `corruption_archive` reads it.

    `clean` is what the network's classes are compared with and its clean accuracy is measured on; its images are not
    those that the archive's were made of, which the authors cut out of ImageNet anew. `limit` takes at most that many
    images of each family and severity, as many from each class as can be. The classes of ImageNet in the family frost
    that `clean` does not have are passed over, with a note. Raises ResattnError as `evaluate_corruptions` does; for a
    member that is damaged, of an unknown class or of another size, by name; and where a family lacks a severity.
    """
    require_same_classes(network, clean)
    execution = execution or reference_execution()
    archive = open_corruption_archive(path)
    require_fit(archive, clean)
    started = time.perf_counter()
    rows = labelled_rows(clean, limit)
    shown = progress_bar(progress, len(rows), f"evaluating on {clean.data} {clean.split}")
    plain = measure(network, _made_batches(clean, rows, batch_size, ()), execution, shown)
    choice = ArchiveChoice(path, clean, limit)
    tally = measure(
        network,
        archive_batches(archive, choice, batch_size),
        execution,
        progress_bar(progress, archive.total, f"evaluating on {path.name}", unit=archive.unit),
    )
    require_all_severities(tally.images, path)
    families = scores(tally)
    return RobustnessResult(
        data=clean.data,
        split=clean.split,
        corruptions=f"of {path.name}",
        images=max(count for family in families for count in family.images),
        clean_top1=plain.share(CLEAN),
        families=families,
        notes=(*choice.notes(), *uneven(families)),
        examples=choice.examples(),
        seconds=time.perf_counter() - started,
        model=model_name(network),
        precision=execution.precision,
        device=str(execution.device),
    )


def _made_batches(
    split: PackedSplit, rows: npt.NDArray[np.int64], batch_size: int, families: Iterable[str]
) -> Iterator[Batch]:
    """Each batch clean, then in every family and severity, and only then the next: so the time left is told well."""
    for batch in row_batches(rows, batch_size):
        clean = Batch(np.array(split.images[batch]), split.labels[batch], [CLEAN] * len(batch), len(batch))
        yield clean
        for cell in itertools.product(families, SEVERITIES):
            corrupted = corrupt(clean.images, *cell, seeds=batch)
            yield clean._replace(images=corrupted, cells=[cell] * len(batch))


def _made_examples(split: PackedSplit, rows: npt.NDArray[np.int64]) -> dict[str, Pixels]:
    """Of a few images the one with the most contrast and colour, on which every corruption is seen."""
    few = evenly_spaced(rows, EXAMPLE_CANDIDATES)
    images = np.array(split.images[few])
    row = int(few[np.argmax(images.std(axis=(1, 2, 3)) * np.ptp(images, axis=3).mean(axis=(1, 2)))])
    image = np.array(split.images[[row]])
    return {
        family: np.concatenate([corrupt(image, family, each, seeds=[row]) for each in EXAMPLE_SEVERITIES])
        for family in FAMILIES
    }

"""What of Tiny-ImageNet-C is looked at, and whether it is all there."""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from resattn.data.corruption_archive import CorruptedImage, CorruptionArchive, Place
from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.evaluation.corruptions import SEVERITIES
from resattn.evaluation.pixels import Pixels
from resattn.evaluation.robustness_counting import Batch
from resattn.evaluation.robustness_result import EXAMPLE_SEVERITIES, FamilyScore

# In the archive at Zenodo this family has all classes of ImageNet (the authors' issue 60).
CROWDED = "frost"


class ArchiveChoice:
    """Which images of an archive are looked at: all of known classes, or `limit` of each family and severity.

    `clean` has the network's classes, and images of the size that the archive's have to be of.
    """

    def __init__(self, path: Path, clean: PackedSplit, limit: int | None) -> None:
        self.path = path
        self.clean = clean
        self.labels = {class_id: label for label, class_id in enumerate(clean.class_ids)}
        self.limit = limit
        self.passed_over = 0
        self._taken: Counter[tuple[str, int, int]] = Counter()
        self._first: dict[tuple[str, int], Pixels] = {}

    def wants(self, place: Place) -> bool:
        """Whether to read the image; counts it as taken. Raises ResattnError for an unknown class."""
        label = self.labels.get(place.class_id)
        if label is None:
            if place.family == CROWDED and re.fullmatch(r"n\d{8}", place.class_id):
                self.passed_over += 1
                return False
            raise ResattnError(
                f"{self.path}: {place.member!r} is of a class the network does not know: {place.class_id!r}",
                "give the archive of the data set that the network was trained on",
            )
        cell = (place.family, place.severity, label)
        if self.limit is not None:
            # Over all classes these numbers sum to the limit.
            share = (label + 1) * self.limit // len(self.labels) - label * self.limit // len(self.labels)
            if self._taken[cell] >= share:
                return False
        self._taken[cell] += 1
        return True

    def keep_first(self, image: CorruptedImage) -> None:
        """Keep the pixels of the first image of each family and severity.

        Raises ResattnError for an image of another size than the clean ones: what that costs is no corruption's doing.
        """
        shapes = image.pixels.shape, self.clean.images.shape[1:]
        size, clean_size = (f"{width}x{height}" for height, width, _ in shapes)
        if size != clean_size:
            raise ResattnError(
                f"{self.path}: {image.place.member!r} has {size} pixels, and the clean images of {self.clean.data} "
                f"have {clean_size}",
                f"evaluate a network and a data set of {size} pixels, or use --corruptions, which makes its images",
            )
        self._first.setdefault((image.place.family, image.place.severity), image.pixels)

    def examples(self) -> dict[str, Pixels]:
        """For each family what was kept at EXAMPLE_SEVERITIES, 3 x H x W x 3."""
        families = {family for family, _ in self._first}
        return {name: np.stack([self._first[name, each] for each in EXAMPLE_SEVERITIES]) for name in families}

    def notes(self) -> tuple[str, ...]:
        """What is worth knowing about the archive."""
        if not self.passed_over:
            return ()
        return (
            f"{self.passed_over:,} images of {CROWDED} are of classes that are not the network's, and were passed over",
        )


def archive_batches(archive: CorruptionArchive, choice: ArchiveChoice, batch_size: int) -> Iterator[Batch]:
    """The chosen images of an archive, in its order."""
    position = 0
    images = archive.images(choice.wants)
    while group := list(itertools.islice(images, batch_size)):
        for image in group:
            choice.keep_first(image)
        yield Batch(
            np.stack([image.pixels for image in group]),
            np.array([choice.labels[image.place.class_id] for image in group]),
            [(image.place.family, image.place.severity) for image in group],
            group[-1].position - position,
        )
        position = group[-1].position


def require_fit(archive: CorruptionArchive, clean: PackedSplit) -> None:
    """Raise ResattnError for what can be seen before all is read to be missing, or of other classes or another size."""
    if (cells := archive.cells()) is not None:
        require_all_severities(cells, archive.path)
    choice = ArchiveChoice(archive.path, clean, None)
    for image in itertools.islice(archive.images(choice.wants), 1):
        choice.keep_first(image)


def require_all_severities(cells: Collection[tuple[str, int]], path: Path) -> None:
    """Raise ResattnError, naming the archive at `path`, unless it has families, and each of them all severities."""
    mend = "give the whole archive, Tiny-ImageNet-C.tar, or the folder it unpacks to"
    if not cells:
        raise ResattnError(f"{path} holds no corrupted images", mend)
    for family in sorted({family for family, _ in cells}):
        for severity in SEVERITIES:
            if (family, severity) not in cells:
                raise ResattnError(f"{path} holds no images of {family} at severity {severity}", mend)


def uneven(families: tuple[FamilyScore, ...]) -> tuple[str, ...]:
    """A note where not all families and severities have as many images."""
    counts = Counter(count for family in families for count in family.images)
    if len(counts) == 1:
        return ()
    return (f"families and severities have between {min(counts):,} and {max(counts):,} images each",)

"""What is said of one image: its likeliest classes, or why it could not be read."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from resattn.errors import ResattnError


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, best first.

    source: the image's file, None where it came from memory. labels: class ids. descriptions: their readable
    names. probabilities: fractions of 1, over all classes. masks: by "stage{i}.{j}", float32, h x w for
    "mean" and channels x h x w for "all", over the square the network saw; None where they were not asked
    for.
    """

    source: str | None
    labels: tuple[str, ...]
    descriptions: tuple[str, ...]
    probabilities: tuple[float, ...]
    masks: dict[str, npt.NDArray[np.float32]] | None = field(default=None, compare=False)

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """(label, description, probability) of each class, best first."""
        return zip(self.labels, self.descriptions, self.probabilities, strict=True)

    def to_json(self) -> dict[str, Any]:
        """The prediction as one JSON object; masks, where there are any, as nested lists."""
        fields: dict[str, Any] = {
            "source": self.source,
            "labels": list(self.labels),
            "descriptions": list(self.descriptions),
            "probabilities": list(self.probabilities),
        }
        if self.masks is not None:
            fields["masks"] = {key: mask.tolist() for key, mask in self.masks.items()}
        return fields


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be predicted: its file, None where it came from memory, and why."""

    source: str | None
    error: ResattnError

    def to_json(self) -> dict[str, Any]:
        """The failure as one JSON object."""
        return {"source": self.source, "error": self.error.what}


def require_readable(unreadable: Sequence[Unreadable]) -> None:
    """Name images that could not be read and raise ResattnError, where there are any."""
    if len(unreadable) == 1:
        raise unreadable[0].error
    if unreadable:
        for one in unreadable:
            print(f"left out: {one.error.what}", file=sys.stderr)
        raise ResattnError(f"{len(unreadable):,} images could not be read", "replace or remove them")

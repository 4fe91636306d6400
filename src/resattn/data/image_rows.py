"""Some rows of an image array, read as they are touched: a part of a memory-mapped split without a copy of it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ImageRows:
    """The images `rows` of `images` (uint8, N x H x W x 3), in that order; indexed like an array along N."""

    def __init__(self, images: "NDArray[np.uint8] | ImageRows", rows: NDArray[np.int64]) -> None:
        self._images = images
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """N, H, W, 3."""
        return (len(self._rows), *self._images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: Any) -> NDArray[np.uint8]:
        return np.asarray(self._images[self._rows[which]])

    def __reduce__(self) -> Any:
        """Pickled as the mapped file's path and the rows, without the pixels."""
        images = self._images
        if isinstance(images, np.memmap) and images.filename is not None:
            return _restore, (Path(images.filename), self._rows)
        return ImageRows, (images, self._rows)


def _restore(path: Path, rows: NDArray[np.int64]) -> ImageRows:
    return ImageRows(np.lib.format.open_memmap(path, mode="r"), rows)

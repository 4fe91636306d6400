"""The images that an exported file is compared with its network on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from resattn.data.batches import to_float
from resattn.data.image_rows import ImageRows
from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.evaluation.inference import evenly_spaced, require_same_classes
from resattn.models.network import ResidualAttentionNetwork

Pixels = npt.NDArray[np.uint8]
NOISE_IMAGES = 64


@dataclass(frozen=True, eq=False)
class CheckImages:
    """Images, uint8 N x H x W x channels, with what they are in words.

    `labels` are N numbers of classes of the network, or None where there are none to be right or wrong about.
    """

    name: str
    pixels: Pixels | ImageRows
    labels: npt.NDArray[np.int64] | None


def real_images(
    network: ResidualAttentionNetwork, split: PackedSplit, *, limit: int | None = None
) -> CheckImages:
    """Images of a prepared split, evenly spaced where `limit` is less than there are.

    The labelled images with their labels, where the split has some and its classes are the network's own.
    """
    labelled = np.flatnonzero(split.labels >= 0)
    ours = len(labelled) > 0 and _same_classes(network, split)
    rows = evenly_spaced(labelled if ours else np.arange(len(split.labels)), limit)
    labels = split.labels[rows] if ours else None
    return CheckImages(f"{split.data} {split.split}", ImageRows(split.images, rows), labels)


def noise(size: tuple[int, int, int]) -> CheckImages:
    """Noise of `size` (channels, height, width), the same each time: patches of all sizes and plain pixels."""
    channels, height, width = size
    rng = np.random.default_rng(0)
    pixels = np.empty((NOISE_IMAGES, height, width, channels), np.uint8)
    for image in pixels:
        side = 2 ** int(rng.integers(0, 6))
        patches = rng.integers(0, 256, (-(-height // side), -(-width // side), channels), dtype=np.uint8)
        image[:] = patches.repeat(side, 0).repeat(side, 1)[:height, :width]
    return CheckImages("noise", pixels, None)


def at_size(images: Pixels, size: tuple[int, int]) -> Pixels:
    """uint8 N x H x W x C resized to `size` (height, width), which is square; as they are where it is theirs."""
    if images.shape[1:3] == size:
        return images
    resized = to_float(np.array(images), size[0]).mul(255).round()
    return resized.permute(0, 2, 3, 1).contiguous().to(torch.uint8).numpy()


def _same_classes(network: ResidualAttentionNetwork, split: PackedSplit) -> bool:
    try:
        require_same_classes(network, split)
    except ResattnError:
        return False
    return True

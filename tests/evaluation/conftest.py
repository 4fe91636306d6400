"""A split small enough to work out by hand, and networks whose outputs are known."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resattn.data.packed import PackedSplit


class Oracle(nn.Module):
    """Reads its answer off the first pixel: image with red value k gets row k of `logits`.

    A mirrored image shows its last pixel first, so its answer can differ.
    """

    def __init__(self, logits: Sequence[Sequence[float]], label_names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))
        self.num_classes = len(logits[0])
        self.variant = "oracle"
        self.pretrained_cfg = {"label_names": tuple(label_names)} if label_names else {}
        self.batch_sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.float32
        assert images.shape[1] == 3
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
        assert not self.training
        self.batch_sizes.append(len(images))
        return self.logits[(images[:, 0, 0, 0] * 255).round().long()]


@pytest.fixture
def oracle() -> type[Oracle]:
    """The network above."""
    return Oracle


@pytest.fixture
def make_split(tmp_path: Path) -> Callable[..., PackedSplit]:
    """Builds a split of 4 x 6 images whose upper left red value is `codes` and upper right `mirrored`."""

    def make(
        codes: Sequence[int],
        labels: Sequence[int],
        *,
        mirrored: Sequence[int] | None = None,
        class_ids: Sequence[str] = ("ant", "bee", "cat"),
        file_names: Sequence[str] | None = None,
        split: str = "val",
    ) -> PackedSplit:
        images = np.zeros((len(codes), 4, 6, 3), dtype=np.uint8)
        images[:, 0, 0, 0] = codes
        images[:, 0, -1, 0] = codes if mirrored is None else mirrored
        np.save(tmp_path / "images.npy", images)
        return PackedSplit(
            data="insects",
            split=split,
            images=np.load(tmp_path / "images.npy", mmap_mode="r"),
            labels=np.array(labels, dtype=np.int64),
            boxes=None,
            file_names=tuple(file_names or (f"{split}_{k}.JPEG" for k in range(len(codes)))),
            class_ids=tuple(class_ids),
            class_names=tuple(f"the {name}, a class" for name in class_ids),
            source_sha256="0" * 64,
        )

    return make

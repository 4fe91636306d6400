"""Batches for training and evaluation: seeded order, augmentation, progressive image size.

Every batch is a pure function of (seed, number of the batch), so there is no random state to save: a run that is
resumed at batch k sees exactly what an uninterrupted one would have seen. Several ranks divide that batch among them.
"""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from resattn.data.augmentation import (
    Augmentation,
    crop,
    crop_windows,
    erase,
    erased_rectangles,
    flips,
    gather,
    mix,
)
from resattn.data.packed import PackedSplit

SIZE_STEP = 8


class Batch(NamedTuple):
    """Images N x 3 x S x S, RGB float32 in [0, 1], channels last in memory; labels N, int64.

    Where images were mixed, `share` of the first image's label and 1 - share of `other_labels` is the target;
    otherwise `other_labels` are the labels again and the share is 1.
    """

    images: Tensor
    labels: Tensor
    other_labels: Tensor
    share: float


def image_size(*, full: int, start_scale: float, ramp: float, progress: float) -> int:
    """The side of the training images, in pixels, after `progress` (0 to 1) of a run.

    Grows linearly from about `start_scale` * `full` to `full` over the first `ramp` of the run, in steps of 8 pixels.
    """
    start = max(SIZE_STEP, _in_steps(full * start_scale))
    if start >= full or progress >= ramp:
        return full
    return min(full, start + _in_steps((full - start) * progress / ramp))


def _in_steps(pixels: float) -> int:
    return int(pixels / SIZE_STEP + 0.5) * SIZE_STEP


class TrainingBatches:
    """The batches of a whole run, in order; iterating goes on from where `load_state_dict` said.

    A batch holds `batch_size` images over all `world` ranks, each of which gets its share of them (`places_of_rank`).
    Epochs follow each other without a gap: no image is dropped, and a batch may span two of them. `workers` threads
    make batches ahead of time, in page-locked memory where there is a GPU to wait for them; with 0 a batch is made when
    it is asked for.
    """

    def __init__(
        self,
        split: PackedSplit,
        *,
        batch_size: int,
        batches: int,
        seed: int,
        augmentation: Augmentation,
        start_scale: float,
        size_ramp: float,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.batches = batches
        self.workers = workers
        self.seed = seed
        self.augmentation = augmentation
        self.start_scale = start_scale
        self.size_ramp = size_ramp
        self.rank = rank
        self.world = world
        self._labels = torch.from_numpy(np.array(split.labels, dtype=np.int64))
        self._orders: dict[int, np.ndarray] = {}
        self._orders_lock = threading.Lock()
        self._next = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._ahead() if self.workers else map(self.batch, range(self._next, self.batches)):
            self._next += 1
            yield batch
        self._next = 0

    def _ahead(self) -> Iterator[Batch]:
        """The batches from the next one on, of which some are already in the making."""
        with ThreadPoolExecutor(self.workers) as pool:
            making: deque[Future[Batch]] = deque()
            for number in range(self._next, self.batches):
                making.append(pool.submit(self._ready, number))
                if len(making) > 2 * self.workers:
                    yield making.popleft().result()
            while making:
                yield making.popleft().result()

    def _ready(self, number: int) -> Batch:
        batch = self.batch(number)
        if not torch.cuda.is_available():
            return batch
        images, labels, other_labels, share = batch
        return Batch(images.pin_memory(), labels.pin_memory(), other_labels.pin_memory(), share)

    def state_dict(self) -> dict[str, int]:
        """Where the next iteration goes on."""
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved state."""
        self._next = state["next"]

    def size(self, number: int) -> int:
        """The side of the images of batch `number`, in pixels."""
        full = self.split.images.shape[1]
        progress = number / max(self.batches, 1)
        return image_size(full=full, start_scale=self.start_scale, ramp=self.size_ramp, progress=progress)

    def batch(self, number: int) -> Batch:
        """This rank's share of batch `number` of the run.

        What is random is drawn for the whole batch by every rank, so that their number changes nothing.
        """
        rng = np.random.default_rng([self.seed, number, 0])
        places = places_of_rank(self.batch_size, rank=self.rank, world=self.world)
        epochs, slots = np.divmod(number * self.batch_size + places, len(self.split.images))
        indices = np.empty_like(slots)
        for epoch in np.unique(epochs):
            indices[epochs == epoch] = self._order(int(epoch))[slots[epochs == epoch]]
        limit, size = self.augmentation.shift, self.size(number)
        shifts = rng.integers(-limit, limit + 1, size=(self.batch_size, 2))[places]
        mirrored = flips(self.augmentation, indices, epochs, self.seed)
        images = to_float(gather(self.split.images, indices, mirrored, shifts), size)
        if self.augmentation.crop < 1:
            images = crop(images, crop_windows(self.batch_size, self.augmentation.crop, rng)[places])
        if self.augmentation.erase:
            rectangles = erased_rectangles(self.batch_size, size, self.augmentation.erase, rng)
            erase(images, [rectangles[place] for place in places])
        labels = self._labels[torch.from_numpy(indices)]
        mixing = number < self.augmentation.mix_until * self.batches
        mixed = mix(images, labels, self.augmentation, rng) if mixing else None
        return Batch(*mixed) if mixed else Batch(images, labels, labels, 1.0)

    def _order(self, epoch: int) -> np.ndarray:
        with self._orders_lock:
            if epoch not in self._orders:
                self._orders = {kept: order for kept, order in self._orders.items() if kept == epoch - 1}
                self._orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(
                    len(self.split.images)
                )
            return self._orders[epoch]


def places_of_rank(batch_size: int, *, rank: int, world: int) -> np.ndarray:
    """Which places of a batch, from 0, fall to a rank: with each the one as far from the end, which it is mixed with.

    Of several ranks each gets as many where `batch_size` is a multiple of 2 * `world`.
    """
    if world == 1:
        return np.arange(batch_size)
    first_half = np.arange(batch_size // 2)[rank::world]
    return np.concatenate([first_half, batch_size - 1 - first_half[::-1]])


class EvaluationBatches:
    """Every image of a split once, in order, unaugmented; each rank gets every `world`-th batch."""

    def __init__(self, split: PackedSplit, *, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.split = split
        self.batch_size = batch_size
        self.starts = range(0, len(split.images), batch_size)[rank::world]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in self.starts:
            chosen = slice(start, start + self.batch_size)
            labels = torch.from_numpy(np.array(self.split.labels[chosen], dtype=np.int64))
            yield to_float(np.array(self.split.images[chosen])), labels


def to_float(images: np.ndarray, size: int | None = None) -> Tensor:
    """uint8 N x H x W x 3 to float32 N x 3 x S x S in [0, 1], channels last in memory.

    Resized bilinearly with antialiasing where `size` differs from the images' own.
    """
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    if size is not None and size != batch.shape[-1]:
        batch = functional.interpolate(batch, size=(size, size), mode="bilinear", antialias=True)
    return batch / 255

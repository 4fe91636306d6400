"""Images that arrive together are computed together: one thread runs the network, batch after batch."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from resattn.errors import ResattnError
from resattn.serving.limits import Limits
from resattn.serving.refusals import Refusal
from resattn.serving.runtime import Floats, Pixels, Runtime

# What is told of each batch: how many images, how many seconds.
Report = Callable[[int, float], None]
_LONGEST_RETRY = 60


@dataclass(frozen=True, eq=False)
class Answer:
    """Probabilities of all classes, and for each mask its mean over channels, H' x W'; none unless asked for."""

    probabilities: Floats
    masks: dict[str, Floats]


@dataclass(eq=False)
class _Waiting:
    pixels: Pixels
    masks: bool
    answer: "asyncio.Future[Answer]"
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """Computes images in batches, in the order they came.

    A batch is what waits, `limits.batch` images at most; the first of it waits up to `limits.gather_seconds` for
    others, and no longer where a batch was being computed meanwhile. `start`, `places` and `submit` belong to one event
    loop.
    """

    def __init__(self, runtime: Runtime, limits: Limits, *, report: Report = lambda _images, _seconds: None):
        self._runtime = runtime
        self._limits = limits
        self._report = report
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._taken = 0
        self._seconds_an_image = 0.0
        self._thread = threading.Thread(target=self._work, name="resattn-batches", daemon=True)

    @property
    def taken(self) -> int:
        """How many places of the queue are taken."""
        return self._taken

    def warm_up(self) -> None:
        """Run one image and the largest batch, so that no client waits for what is made at first use.

        Raises ResattnError where the network gives something that is no number.
        """
        channels, height, width = self._runtime.input_size
        for images in (1, self._limits.batch):
            begun = time.perf_counter()
            _probabilities(self._runtime(np.zeros((images, height, width, channels), np.uint8)))
            self._seconds_an_image = (time.perf_counter() - begun) / images

    def start(self) -> None:
        """Begin to compute what is submitted."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @contextmanager
    def places(self, images: int) -> Iterator[None]:
        """Keep places in the queue; raises the Refusal 429 where there are not so many."""
        if self._taken + images > self._limits.queue:
            seconds = min(_LONGEST_RETRY, max(1, math.ceil(self._taken * self._seconds_an_image)))
            raise Refusal(
                429,
                f"the queue is full: {self._taken} of its {self._limits.queue} places are taken",
                f"send it again in {seconds} s",
                retry_after=seconds,
            )
        self._taken += images
        try:
            yield
        finally:
            self._taken -= images

    def submit(self, pixels: Pixels, *, masks: bool) -> "asyncio.Future[Answer]":
        """Put one image, uint8 H x W x 3 at the network's size, in line; cancelling what is returned takes it out."""
        waiting = _Waiting(pixels, masks, self._loop.create_future())
        with self._changed:
            self._waiting.append(waiting)
            if len(self._waiting) == 1 or len(self._waiting) >= self._limits.batch:
                self._changed.notify()
        return waiting.answer

    def close(self) -> None:
        """Compute what still waits, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            begun = time.perf_counter()
            outcome: list[Answer] | Exception
            try:
                outcome = self._compute(batch)
            except Exception as error:
                outcome = error
            seconds = time.perf_counter() - begun
            self._seconds_an_image += 0.2 * (seconds / len(batch) - self._seconds_an_image)
            self._report(len(batch), seconds)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_deliver, batch, outcome)

    def _next_batch(self) -> list[_Waiting]:
        """Wait for images, and take them; none once the batcher is closing and nobody waits."""
        with self._changed:
            while True:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return []
                until = self._waiting[0].arrived + self._limits.gather_seconds
                while len(self._waiting) < self._limits.batch and not self._closing:
                    left = until - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                count = min(len(self._waiting), self._limits.batch)
                taken = [self._waiting.popleft() for _ in range(count)]
                if batch := [one for one in taken if not one.answer.cancelled()]:
                    return batch

    def _compute(self, batch: Sequence[_Waiting]) -> list[Answer]:
        images = np.stack([one.pixels for one in batch])
        # A network may have no masks, and an exported file without them refuses to be asked. Masks cost several times
        # what classes do: an image without them adds nothing to that.
        with_masks = [k for k, one in enumerate(batch) if one.masks and self._runtime.mask_names]
        without = [k for k in range(len(batch)) if k not in with_masks]
        answers: dict[int, Answer] = {}
        if without:
            rows = _probabilities(self._runtime(images[without]))
            answers = {k: Answer(row, {}) for k, row in zip(without, rows, strict=True)}
        if with_masks:
            logits, masks = self._runtime.with_masks(images[with_masks])
            for place, (k, row) in enumerate(zip(with_masks, _probabilities(logits), strict=True)):
                answers[k] = Answer(row, {name: mask[place].mean(axis=0) for name, mask in masks.items()})
        return [answers[k] for k in range(len(batch))]


def _deliver(batch: Sequence[_Waiting], outcome: list[Answer] | Exception) -> None:
    for place, one in enumerate(batch):
        if one.answer.done():
            continue
        if isinstance(outcome, Exception):
            one.answer.set_exception(outcome)
        else:
            one.answer.set_result(outcome[place])


def _probabilities(logits: Floats) -> Floats:
    """Softmax, N x classes; raises ResattnError where a logit is not finite."""
    if not np.isfinite(logits).all():
        raise ResattnError(
            "the network's output is not finite: its weights are broken", "serve an earlier checkpoint"
        )
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares

"""How long a run still trains, although its images grow and its first steps may train the classifier alone."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from resattn.training.budget import StepKind

# What is not measured yet is guessed from what is. The shipped recipes' steps grow with the side of an image to the
# power of 1.1 to 1.4 (the budgets that `--time` prints on two cores); a backward pass costs two forward passes.
POWER_OF_SIDE = 1.3
WHOLE_STEP = 3.0
# The weight of the newest step in its kind's mean, at least: the machine's speed changes.
NEWEST = 0.02


@dataclass(frozen=True)
class _Stretch:
    """Batches of one kind in a row: from number `begin` up to but without `end`."""

    kind: StepKind
    begin: int
    end: int


class TimeLeft:
    """Learns what a batch of each kind takes, and says how long those that are left will.

    `kinds` has the kind of every batch of the run; see `budget.step_kinds`.
    """

    def __init__(self, kinds: Iterable[StepKind]) -> None:
        self._stretches: list[_Stretch] = []
        for kind, batches in groupby(kinds):
            begin = self._stretches[-1].end if self._stretches else 0
            self._stretches.append(_Stretch(kind, begin, begin + sum(1 for _ in batches)))
        self._seconds: dict[StepKind, float] = {}
        self._seen: Counter[StepKind] = Counter()
        self._newest: StepKind | None = None

    def took(self, batch: int, seconds: float) -> None:
        """Batch number `batch` took so many seconds."""
        kind = next(stretch.kind for stretch in self._stretches if batch < stretch.end)
        self._seen[kind] += 1
        before = self._seconds.get(kind, seconds)
        self._seconds[kind] = before + max(1 / self._seen[kind], NEWEST) * (seconds - before)
        self._newest = kind

    def seconds(self, *, done: int) -> float:
        """What the batches behind the first `done` will take; 0 before any was seen."""
        return sum(
            max(0, stretch.end - max(stretch.begin, done)) * self._estimate(stretch.kind)
            for stretch in self._stretches
        )

    def _estimate(self, kind: StepKind) -> float:
        if kind in self._seconds or self._newest is None:
            return self._seconds.get(kind, 0.0)
        known = self._newest
        work = (1.0 if kind.head_only else WHOLE_STEP) / (1.0 if known.head_only else WHOLE_STEP)
        return self._seconds[known] * work * float((kind.size / known.size) ** POWER_OF_SIDE)

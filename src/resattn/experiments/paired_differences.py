"""Differences between arms, seed by seed, and how sure their means are."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resattn.experiments.comparison_file import Contrast
from resattn.experiments.comparison_numbers import RunRecord, finished_of

CONFIDENCE = 0.95
# Up to this many seeds all resamples are formed, beyond it some are drawn.
ENUMERATED_SEEDS = 5
RESAMPLES = 20_000


@dataclass(frozen=True)
class Paired:
    """One score's differences, a value a seed, their mean and two intervals of it at 95 %.

    `student` is Student's t, which takes the differences for draws from a normal distribution; `bootstrap` is the
    percentile bootstrap, which assumes no distribution and is too narrow for few seeds: its interval of two covers the
    truth about half of the time, that of three at most three times in four. NaN below two seeds.
    """

    values: Sequence[float]
    mean: float
    student: tuple[float, float]
    bootstrap: tuple[float, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Paired":
        """Of any number of seeds; NaN of none."""
        mean = statistics.fmean(values) if values else math.nan
        return cls(values, mean, student_interval(values), bootstrap_interval(values))


@dataclass(frozen=True)
class Difference:
    """What an arm has more than another with the same seeds: top-1 in fractions of 1, loss in nats.

    Where `contrast` it is a difference of differences, `arm` its name, and `against` how it is formed. Of `top1` `won`
    were greater than zero, and `tied` were zero.
    """

    arm: str
    against: str
    contrast: bool
    seeds: Sequence[int]
    top1: Paired
    loss: Paired
    won: int
    tied: int


def difference(records: Sequence[RunRecord], arm: str, against: str) -> Difference:
    """Compare two arms on the seeds that both have finished."""
    return Difference(arm, against, False, *_paired(records, [arm], [against]))


def contrast(records: Sequence[RunRecord], wanted: Contrast) -> Difference:
    """A difference of two differences, on the seeds that all four arms have finished."""
    first, second, third, fourth = wanted.arms
    formed = f'("{first}" - "{second}") - ("{third}" - "{fourth}")'
    return Difference(wanted.name, formed, True, *_paired(records, [first, fourth], [second, third]))


def _paired(
    records: Sequence[RunRecord], plus: Sequence[str], minus: Sequence[str]
) -> tuple[list[int], Paired, Paired, int, int]:
    """Seeds, top-1, loss, how often top-1 is above zero, and how often zero, of a sum of arms less another."""
    runs = {name: {run.seed: run.scores for run in finished_of(records, name)} for name in (*plus, *minus)}
    seeds = sorted(set.intersection(*(set(its) for its in runs.values())))

    def values(score: str) -> list[float]:
        # Rounded, or sums of equal scores in another order would differ, and no difference be a tie.
        return [
            round(
                sum(runs[name][seed][score] for name in plus)
                - sum(runs[name][seed][score] for name in minus),
                9,
            )
            for seed in seeds
        ]

    top1 = values("top1")
    won, tied = sum(value > 0 for value in top1), sum(value == 0 for value in top1)
    return seeds, Paired.of(top1), Paired.of(values("loss")), won, tied


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of `values`; NaN of fewer than two."""
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    mean = statistics.fmean(values)
    half = _student_quantile(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return mean - half, mean + half


def _student_quantile(freedom: int) -> float:
    """What |t| stays below with 95 % probability.

    With t = sqrt(freedom) tan(angle) the density of the angle is cos(angle) ** (freedom - 1), up to a factor.
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(CONFIDENCE * below[-1], below, angles)))


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the mean of `values`; NaN of fewer than two (Efron 1979)."""
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    if count <= ENUMERATED_SEEDS:
        drawn = np.array(list(itertools.product(range(count), repeat=count)))
    else:
        drawn = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    means = np.asarray(values, dtype=np.float64)[drawn].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)

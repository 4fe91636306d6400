"""Means, spreads and intervals against values worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from resattn.experiments.comparison import find_comparison, read_comparison
from resattn.experiments.comparison_numbers import Mean, RunRecord, bootstrap_interval, difference
from resattn.experiments.comparison_remarks import remarks
from resattn.experiments.wording import in_points, short_commit


def record(arm: str, seed: int, top1: float | None) -> RunRecord:
    return RunRecord(
        arm=arm, seed=seed, state="unfinished" if top1 is None else "finished", folder="", steps=1,
        planned_steps=1, images=1, scores={} if top1 is None else {"top1": top1}, minutes=1, curve={}, origin={},
    )  # fmt: skip


def test_mean_and_deviation_of_a_run() -> None:
    assert Mean.of([0.1, 0.2, 0.3]) == Mean(pytest.approx(0.2), pytest.approx(0.1))
    assert Mean.of([0.5]).mean == 0.5 and math.isnan(Mean.of([0.5]).deviation)
    assert math.isnan(Mean.of([]).mean)


def test_the_interval_of_three_is_what_27_resamples_say() -> None:
    # 1 of 27 means is 0 and 3 are 1: the 2.5 % quantile, at place 0.65 of 26, lies between the first two.
    low, high = bootstrap_interval([0.0, 3.0, 6.0])
    assert (low, high) == (pytest.approx(0.65), pytest.approx(5.35))


def test_the_interval_of_many_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 400)
    low, high = bootstrap_interval(values.tolist())
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_only_seeds_that_both_arms_have_finished_are_paired() -> None:
    runs = [
        record("a", 0, 0.5),
        record("b", 0, 0.4),
        record("a", 1, 0.6),
        record("b", 1, None),
        record("b", 2, 0.9),
    ]
    found = difference(runs, "a", "b")
    assert (found.pairs, found.won, found.mean) == (1, 1, pytest.approx(0.1))
    assert math.isnan(found.low)
    assert difference(runs, "a", "c").pairs == 0


def test_differences_are_told_in_points() -> None:
    told = {
        "arm": "a",
        "against": "b",
        "pairs": 3,
        "won": 2,
        "tied": 0,
        "mean": 0.0123,
        "low": -0.001,
        "high": 0.02,
    }
    assert in_points(told) == "+1.23 [-0.10, +2.00] against b, won 2 of 3"
    assert in_points({**told, "low": None, "high": None}) == "+1.23 against b, won 2 of 3"
    assert in_points({**told, "won": 1, "tied": 1}).endswith("won 1 of 3, tied 1")
    assert in_points({**told, "pairs": 0}) == "no seed in common with b yet"
    assert short_commit("0123456789+") == "0123456+" and short_commit(None) == "unknown"


def test_runs_that_took_another_time_than_their_budget_are_told_once() -> None:
    comparison = read_comparison(find_comparison("masks"), time="10m")
    runs = [record("plain", seed, 0.5) for seed in range(4)]
    timed = [replace(run, minutes=minutes) for run, minutes in zip(runs, (10.2, 9.7, 12.5, 9.0), strict=True)]
    (told,) = remarks(comparison, timed)
    assert told.startswith(
        "2 of 4 runs took 9.0 (plain, seed 3) to 12.5 (plain, seed 2) minutes instead of the 10.0 they"
    )
    assert remarks(comparison, timed[:2]) == []
    assert "1 of 3 runs took 12.5 (plain, seed 2) minutes" in remarks(comparison, timed[:3])[0]

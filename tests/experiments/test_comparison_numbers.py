"""Means, spreads and intervals against values worked out by hand."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from toy_comparison import toy

from resattn.experiments.comparison import read_comparison
from resattn.experiments.comparison_file import Contrast, find_comparison
from resattn.experiments.comparison_numbers import Mean, RunRecord
from resattn.experiments.comparison_remarks import remarks
from resattn.experiments.paired_differences import bootstrap_interval, contrast, difference, student_interval
from resattn.experiments.wording import difference_row, in_points, short_commit


def record(arm: str, seed: int, top1: float | None) -> RunRecord:
    scores = {} if top1 is None else {"top1": top1, "loss": 1 - top1}
    return RunRecord(
        arm=arm, seed=seed, state="unfinished" if top1 is None else "finished", folder="", steps=1,
        planned_steps=1, images=1, scores=scores, minutes=1, curve={}, origin={},
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


@pytest.mark.parametrize(
    ("count", "quantile"), [(2, 12.706), (3, 4.303), (4, 3.182), (11, 2.228), (121, 1.980)]
)
def test_students_interval_is_that_of_the_tables(count: int, quantile: float) -> None:
    values = np.random.default_rng(count).normal(0.5, 0.1, count)
    low, high = student_interval(values.tolist())
    half = quantile * values.std(ddof=1) / math.sqrt(count)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-3)
    assert math.isnan(student_interval([0.5])[0])


def test_only_seeds_that_both_arms_have_finished_are_paired() -> None:
    runs = [
        record("a", 0, 0.5),
        record("b", 0, 0.4),
        record("a", 1, 0.6),
        record("b", 1, None),
        record("b", 2, 0.9),
    ]
    found = difference(runs, "a", "b")
    assert (found.seeds, found.won, found.top1.mean) == ([0], 1, pytest.approx(0.1))
    assert found.loss.values == pytest.approx([-0.1])
    assert math.isnan(found.top1.student[0]) and math.isnan(found.top1.bootstrap[0])
    assert difference(runs, "a", "c").seeds == []


def test_a_contrast_is_a_difference_of_differences() -> None:
    runs = [
        record(arm, seed, top1)
        for arm, scores in {"a": (0.9, 0.8), "b": (0.5, 0.6), "c": (0.4, 0.3), "d": (0.3, 0.2)}.items()
        for seed, top1 in enumerate(scores)
    ]
    found = contrast(runs, Contrast("more", ("a", "b", "c", "d")))
    assert (found.arm, found.against) == ("more", '("a" - "b") - ("c" - "d")')
    assert found.top1.values == pytest.approx([0.3, 0.1])
    # Of which the sums differ by rounding.
    level = [record(arm, 0, top1) for arm, top1 in zip("abcd", (0.572, 0.661, 0.608, 0.697), strict=True)]
    assert contrast(level, Contrast("more", ("a", "b", "c", "d"))).tied == 1


def test_differences_are_told_in_points() -> None:
    top1 = {"values": [0.03, -0.01, 0.02], "mean": 0.0123, "student": [-0.001, 0.02], "bootstrap": [0, 0.01]}
    loss = {"values": [0.1, 0.2, 0.3], "mean": 0.2, "student": [-0.05, 0.45], "bootstrap": [0.1, 0.3]}
    told = {
        "arm": "a", "against": "b", "contrast": False, "seeds": [0, 1, 2], "top1": top1, "loss": loss, "won": 2,
        "tied": 0,
    }  # fmt: skip
    assert in_points(told) == "+1.23 [-0.10, +2.00] against b, won 2 of 3"
    assert difference_row(told) == [
        "a", "b", "+1.23", "[-0.10, +2.00]", "[+0.00, +1.00]", "+3.00, -1.00, +2.00", "2 of 3", "+0.200",
        "[-0.050, +0.450]",
    ]  # fmt: skip
    one = {"values": [0.0123], "mean": 0.0123, "student": [None, None], "bootstrap": [None, None]}
    assert in_points({**told, "seeds": [0], "won": 1, "top1": one}) == "+1.23 against b, won 1 of 1"
    assert in_points({**told, "contrast": True, "against": "(c - d)"}).startswith(
        "+1.23 [-0.10, +2.00] as (c - d)"
    )
    assert in_points({**told, "won": 1, "tied": 1}).endswith("won 1 of 3, tied 1")
    assert in_points({**told, "seeds": []}) == "no seed in common yet"
    assert short_commit("0123456789+") == "0123456+" and short_commit(None) == "unknown"


def test_steps_that_cost_more_and_code_in_no_commit_are_told(dots: str) -> None:
    # Growing images cost less, by as much as they are smaller; batches are held.
    arms = {"growing": {"start_scale": 0.5, "size_ramp": 1.0}, "hot": {"optimization.lr": 0.01}}
    dirty = replace(record("hot", 0, 0.5), origin={"commit": "0123456789+"})
    costs, code = remarks(toy(arms=arms), [dirty])
    assert re.search(r'multiply-accumulates are not: "growing" 0\.[4-9]\d of "plain"\.$', costs)
    assert code == "1 of 1 runs were made with changes to the code that are in no commit."


def test_where_and_by_which_code_a_run_went_on_is_told() -> None:
    comparison = read_comparison(find_comparison("masks"))
    here, there = ({"commit": commit, "threads": 2, "cpu": "A"} for commit in ("0123456", "89abcde+"))
    runs = [replace(record("plain", 0, 0.5), origin=here, sittings=[there, here])]
    runs += [replace(record("plain", seed, 0.5), origin=here) for seed in (1, 2)]
    commits, code = remarks(comparison, [replace(run, minutes=20.0) for run in runs])
    assert commits == "The runs are of 2 commits: 0123456 then 89abcde+ (1), 0123456 (2)."
    assert code == "1 of 3 runs were made with changes to the code that are in no commit."


def test_versions_and_machines_that_steps_were_measured_on_are_told() -> None:
    comparison = read_comparison(find_comparison("masks"))
    versions = [
        {"versions": {"resattn": version, "torch": "2.14.1"}} for version in ("1.0.0", "1.4.0", "1.4.0")
    ]
    runs = [
        replace(record("plain", seed, 0.5), origin=origin, minutes=20.0)
        for seed, origin in enumerate(versions)
    ]
    told, elsewhere = remarks(comparison, runs, elsewhere={"soft masks": "a GPU"})[::-1]
    assert told == "The runs are of 2 versions of resattn: 1.0.0 (1), 1.4.0 (2)."
    assert elsewhere.startswith('The steps of "soft masks" (a GPU) were measured on another machine than the')


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
    # Of equal multiply-accumulates only the control's steps were measured.
    counted = read_comparison(find_comparison("masks-equal-macs"), time="10m")
    others = [replace(run, arm="soft masks") for run in timed]
    assert remarks(counted, [*others, *timed[:2]]) == []
    assert '1 of 3 runs of "plain" took 12.5' in remarks(counted, [*others, *timed[:3]])[0]

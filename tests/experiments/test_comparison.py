"""What a comparison file may say, and what it is told where it says something else."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from resattn.errors import ResattnError
from resattn.experiments.comparison import Comparison, read_comparison
from resattn.experiments.comparison_file import SHIPPED, Contrast, find_comparison

GOOD: dict[str, Any] = {
    "question": "Is one better?",
    "fields": {"data": "dots", "batch_size": 8},
    "control": "plain",
    "arms": {"masks": {"model": "resattn_small"}, "hot": {"optimization": {"lr": 0.5}}},
    "time": "5s",
}


def read(folder: Path, **changes: Any) -> Comparison:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
    return read_comparison(path)


def test_arms_are_the_base_with_fields_changed(tmp_path: Path) -> None:
    comparison = read(tmp_path, fields={**GOOD["fields"], "optimization.momentum": 0.5})
    assert list(comparison.recipes) == ["plain", "masks", "hot"]
    control = comparison.recipes["plain"]
    assert (control.data, control.batch_size, control.optimization.momentum) == ("dots", 8, 0.5)
    assert comparison.recipes["masks"] == control.replace(model="resattn_small")
    assert comparison.recipes["hot"].optimization.lr == 0.5
    assert comparison.against == {"masks": ["plain"], "hot": ["plain"]}
    assert (comparison.time, comparison.seeds, comparison.equal) == ("5s", 3, "time")


def test_the_command_has_the_last_word(tmp_path: Path) -> None:
    read(tmp_path)
    path = tmp_path / "c.yaml"
    comparison = read_comparison(
        path, time="7s", seeds=2, fields=["data=shapes", "batch-size=4"], arms=["hot"]
    )
    assert (comparison.time, comparison.seeds) == ("7s", 2)
    assert list(comparison.recipes) == ["plain", "hot"]
    assert {(recipe.data, recipe.batch_size) for recipe in comparison.recipes.values()} == {("shapes", 4)}
    with pytest.raises(ResattnError, match="--set batch_size=x: batch_size is 'x'"):
        read_comparison(path, fields=["batch_size=x"])
    with pytest.raises(ResattnError, match="--set lr: there is no field, or no value"):
        read_comparison(path, fields=["lr"])
    for field in ("time=1m", "steps=100", "epochs=1"):
        with pytest.raises(ResattnError, match="a run's length is given as a time, 5s") as refused:
            read_comparison(path, fields=[field])
        assert refused.value.mend == "use --time-per-run"
    with pytest.raises(ResattnError, match="seed is no field of a comparison"):
        read_comparison(path, fields=["seed=7"])
    with pytest.raises(ResattnError, match="has no arm 'cold'"):
        read_comparison(path, arms=["cold"])
    with pytest.raises(ResattnError, match="seeds is 0"):
        read_comparison(path, seeds=0)


def test_an_arm_may_be_compared_with_several_and_differences_with_each_other(tmp_path: Path) -> None:
    more = ["masks", "plain", "hot", "plain"]
    comparison = read(tmp_path, against={"hot": ["masks", "plain"]}, contrasts={"more": more})
    assert comparison.against == {"masks": ["plain"], "hot": ["masks", "plain"]}
    assert comparison.partners == {"hot": "masks"}
    assert comparison.contrasts == [Contrast("more", ("masks", "plain", "hot", "plain"))]
    path = tmp_path / "c.yaml"
    assert list(read_comparison(path, arms=["hot"]).recipes) == ["plain", "masks", "hot"]
    without = read_comparison(path, arms=["masks"])
    assert (list(without.recipes), without.contrasts) == (["plain", "masks"], [])


def test_another_recipe_takes_the_place_of_all_but_the_networks_and_what_they_are_judged_on(
    tmp_path: Path,
) -> None:
    fields = {**GOOD["fields"], "model": "resattn_small_plain", "validate_on": "held-out"}
    said = {"note": "Asked of networks.", "budget": "In five seconds."}
    assert read(tmp_path, fields=fields, **said).note == "Asked of networks. In five seconds."
    path = tmp_path / "c.yaml"
    comparison = read_comparison(path, recipe="paper-cifar", fields=["data=cifar100"])
    control = comparison.recipes["plain"]
    assert (control.data, control.batch_size, control.optimization.schedule) == ("cifar100", 64, "drops")
    assert (control.model, control.validate_on) == ("resattn_small_plain", "held-out")
    assert (comparison.equal, comparison.time, comparison.length) == ("steps", None, {"steps": 160_000})
    assert comparison.recipes["hot"] == control.replace(optimization=comparison.recipes["hot"].optimization)
    assert comparison.note == "Asked of networks. Asked with --recipe=paper-cifar --set=data=cifar100."
    assert comparison.command == f"resattn compare {path} --recipe=paper-cifar --set=data=cifar100"
    assert read_comparison(path, recipe="paper-cifar", fields=["steps=9"]).length == {"steps": 9}
    timed = read_comparison(path, recipe="laptop-150m")
    assert (timed.equal, timed.time, timed.recipes["plain"].model_options) == ("time", "150m", {})
    for time in ({"time": "1h"}, {"fields": ["time=1h"]}):
        comparison = read_comparison(path, recipe="paper-cifar", **time)
        assert (comparison.equal, comparison.time) == ("time", "1h")
    counted = read_comparison(path, recipe="laptop-150m", fields=["epochs=5"])
    assert (counted.equal, counted.time, counted.length) == ("steps", None, {"epochs": 5})


def test_a_run_s_recipe_is_as_long_as_that_run_where_time_is_not_what_is_equal(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: dots\ntime: 20m\nsteps: 5537\n")
    for equal, time, length in (("steps", None, {"steps": 5537}), ("time", "20m", {})):
        comparison = read(tmp_path, recipe=str(recipe), equal=equal, time=None, fields={})
        assert (comparison.time, comparison.length) == (time, length)
    shorter = read_comparison(tmp_path / "c.yaml", time="5m")
    assert (shorter.time, shorter.length) == ("5m", {})


def test_a_report_is_named_by_the_options_that_change_it(tmp_path: Path) -> None:
    read(tmp_path)
    path = tmp_path / "c.yaml"
    assert read_comparison(path, seeds=4).name == "c"
    name = read_comparison(path, time="9s", fields=["batch_size=4"], seeds=2).name
    assert re.fullmatch(r"c-time-per-run-9s-set-batch_size-4-seeds-2-\w{6}", name)
    orders = [read_comparison(path, arms=arms).name for arms in (["hot", "masks"], ["masks", "hot"])]
    assert orders[0] == orders[1]
    long = [read_comparison(path, fields=[f"data={'𠀋' * 100}{end}"]).name for end in "ab"]
    assert len(set(long)) == 2 and all(len(name.encode()) < 100 for name in long)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"arm": {}}, "unknown field arm"),
        ({"control": None}, "control is None"),
        ({"arms": {}}, "arms is empty"),
        ({"arms": {"a": {}}}, r"arms\.a changes nothing: with no field"),
        (
            {"arms": {"a": {"batch_size": 8}}},
            r"arms\.a changes nothing: with batch_size as it says, it is plain",
        ),
        ({"arms": {"a": {"seed": 3}}}, r"arms\.a\.seed: every arm is trained with the same seeds"),
        ({"arms": {"a": {"time": "9s"}}}, r"arms\.a\.time: how long arms train is what is held equal"),
        ({"arms": {"a": {"epochs": 3}}, "equal": "macs"}, r"arms\.a\.epochs: .* \(equal: macs\)"),
        (
            {"arms": {"a": {"batch_size": 4}}, "equal": "steps"},
            r"arms\.a\.batch_size: steps of other batches",
        ),
        (
            {"arms": {"a": {"optimization": {"accumulate": 4}}}, "equal": "steps"},
            "accumulate: steps of other",
        ),
        ({"arms": {"a": {"mdel": "x"}}}, r"arms\.a: unknown field mdel"),
        ({"arms": {"a": {"optimization.lr": -1}}}, r"arms\.a: recipe field optimization\.lr is -1"),
        ({"arms": {"a": "resattn_small"}}, r"arms\.a is 'resattn_small'"),
        ({"arms": {"plain": {"model": "resattn_small"}}}, "plain is the control and an arm"),
        ({"arms": {"a b": {"seed": 1}, "a-b": {"batch_size": 4}}}, "seed"),
        ({"against": {"masks": "nobody"}}, r"against\.masks names 'nobody', which is no arm"),
        ({"against": {"masks": "masks"}}, r"against\.masks is masks"),
        ({"against": {"masks": ["plain", "plain"]}}, r"against\.masks is \['plain', 'plain'\]"),
        ({"against": {"masks": ["plain", "cold"]}}, r"against\.masks names 'cold', which is no arm"),
        ({"against": {"plain": "hot"}}, "against names plain, the control"),
        ({"contrasts": {"hot": ["masks", "plain", "hot", "plain"]}}, r"contrasts\.hot is called like an arm"),
        ({"contrasts": {"more": ["masks", "plain", "hot", "hot"]}}, r"contrasts\.more is"),
        ({"contrasts": {"more": ["masks", "plain"]}}, r"contrasts\.more is \['masks', 'plain'\]"),
        ({"contrasts": {"more": ["masks", "plain", "hot", "cold"]}}, r"contrasts\.more names 'cold'"),
        ({"equal": "luck"}, "equal is 'luck'"),
        ({"time": None}, "equal is time, and no time is given"),
        ({"time": None, "equal": "steps"}, "nothing says how long a run is"),
        ({"time": "soon"}, r"c\.yaml: time: 'soon' is no duration"),
        (
            {"fields": {"data": "dots", "epochs": 4}},
            r"fields\.epochs and time, 5s, say twice how long a run is",
        ),
        ({"arms": {"a": {"validations": 3}}}, r"arms\.a changes nothing: with validations"),
        ({"recipe": "laptop-20"}, "there is no recipe laptop-20"),
        ({"fields": {"lr": 1}}, "fields: unknown field lr"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_field(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(ResattnError, match=what):
        read(tmp_path, **changes)


def test_a_field_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("control: plain\narms: {a: {batch_size: 3}}\n")
    with pytest.raises(ResattnError, match=r"c\.yaml: question is missing"):
        read_comparison(path)
    path.write_text("question: Which?\narms:\n  hot: {seed: 1}\n  hot: {seed: 2}\n")
    with pytest.raises(
        ResattnError, match=r"(?s)comparison .*c\.yaml is no valid YAML.*hot stands there twice"
    ):
        read_comparison(path)
    with pytest.raises(ResattnError, match="there is no comparison nowhere"):
        find_comparison("nowhere")


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_comparison_can_be_read(name: str) -> None:
    comparison = read_comparison(find_comparison(name))
    assert comparison.question.endswith("?")
    assert len(comparison.recipes) > 1
    by_the_paper = read_comparison(find_comparison(name), recipe="paper-cifar")
    assert {its.data for its in by_the_paper.recipes.values()} == {"cifar10"}
    assert [its.model for its in by_the_paper.recipes.values()] == [
        its.model for its in comparison.recipes.values()
    ]


def test_arms_may_be_named_in_any_script(tmp_path: Path) -> None:
    arms = {"小": {"batch_size": 2}, "大": {"batch_size": 4}}
    assert list(read(tmp_path, arms=arms).recipes) == ["plain", "小", "大"]


def test_a_file_called_like_one_that_ships_is_refused(tmp_path: Path) -> None:
    for name in ("masks.yaml", "masks.yml", "masks"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(GOOD))
        with pytest.raises(ResattnError, match="is called like a comparison that ships"):
            read_comparison(path)
    shipped = Path(os.path.relpath(SHIPPED / "masks.yaml"))
    assert read_comparison(shipped).command == "resattn compare masks"

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resattn.errors import ResattnError
from resattn.training.recipe import SHIPPED, Optimization, Recipe, find_recipe, parse_duration


def test_a_recipe_survives_yaml(tmp_path: Path) -> None:
    recipe = Recipe(
        data="mine",
        model="resattn_small",
        epochs=2.5,
        model_options={"drop_rate": 0.1, "learning": "naive", "masked_stages": [1, 3]},
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.from_yaml(path) == recipe


@given(
    lr=st.floats(1e-6, 10),
    seed=st.integers(0, 2**31 - 1),
    steps=st.none() | st.integers(1, 10**9),
    name=st.text(min_size=1, max_size=20),
)
def test_any_valid_values_survive_yaml(
    lr: float, seed: int, steps: int | None, name: str, tmp_path_factory
) -> None:
    recipe = Recipe(data=name, seed=seed, steps=steps, optimization=Optimization(lr=lr))
    path = tmp_path_factory.mktemp("yaml") / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.from_yaml(path) == recipe


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("modle: x", "unknown field modle", "did you mean model?"),
        ("optimization: {lrr: 1}", "unknown field optimization.lrr", "did you mean optimization.lr?"),
        (
            "optimization: 3",
            "optimization is 3, not a group of fields",
            "indent its fields under `optimization:`",
        ),
        ("batch_size: many", "batch_size is 'many'", "batch_size takes a whole number"),
        ("batch_size: true", "batch_size is True", "batch_size takes a whole number"),
        ("batch_size: 0", "recipe field batch_size is 0", "batch_size lies between 1 and"),
        (
            "optimization: {optimizer: adam}",
            "optimization.optimizer is 'adam'",
            "takes one of sgd, adamw, muon",
        ),
        ("time: soon", "'soon' is no duration", "write it like 90s, 20m or 1h30m"),
        ("model_options: {a: [x]}", "model_options is {'a': ['x']}", "takes a mapping of names to values"),
        ("- data", "holds no fields", "write one field a line"),
        ("data: [", "is no valid YAML", "mend the file"),
        ("seed: 1\ndata: shapes\nseed: 2", "seed stands there twice", "mend the file"),
        ("data: !!python/object:os.system {}", "is no valid YAML", "mend the file"),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_and_field(tmp_path: Path, text: str, what: str, mend: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ResattnError) as caught:
        Recipe.from_yaml(path)
    assert str(path) in caught.value.what
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match="No such file"):
        Recipe.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(ResattnError) as caught:
        find_recipe("lptop")
    assert "demo" in caught.value.mend


def test_a_choice_that_there_is_not_is_refused_of_a_program_too() -> None:
    with pytest.raises(ResattnError, match=r"optimization\.schedule is 'stairs'") as refused:
        Recipe(optimization=Optimization(schedule="stairs"))  # type: ignore[arg-type]
    assert "two-phase" in refused.value.mend
    with pytest.raises(ResattnError, match="recipe field validate_on is 'test'"):
        Recipe(validate_on="test")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert Recipe.from_yaml(find_recipe(path.stem)).model.startswith(("resattn", "seed"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("2.5h", 9000), (" 1m5s ", 65)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "-5m", "0s", "1m2h", "1.2.3m", "5 minutes"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ResattnError, match="is no duration"):
        parse_duration(text)

"""Recipe and comparison files spoilt at random: read as what they say, or refused with a sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from resattn.errors import ResattnError
from resattn.experiments.comparison import read_comparison
from resattn.experiments.comparison_file import SHIPPED as COMPARISONS
from resattn.experiments.comparison_file import find_comparison
from resattn.training.recipe import SHIPPED, Recipe, find_recipe

RECIPES = sorted(SHIPPED.glob("*.yaml"))
TEXTS = [path.read_text() for path in RECIPES] + [Recipe().to_yaml()]
QUESTIONS = [path.read_text() for path in sorted(COMPARISONS.glob("*.yaml"))]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
# What YAML readers stumble over.
ODD = st.sampled_from(
    ["2001-99-99", "9" * 5000, "&a [*a]", "*a", "!!python/object:os.system x", "[" * 2000, "{? [1] : 2}", "- - -",
     "\t", "%YAML 9.9", "!!timestamp x", "!!int x", "!!float 1e", "<<: 3", "? ", "\x00", "0x", "1:99", "=",
     "!!set {a, b}"]
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, texts: list[str]) -> bytes:
    """A file of `texts` with one to three pieces put in, left out or replaced."""
    content = draw(st.sampled_from(texts)).encode()
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(content))), draw(st.integers(0, 12))
        put = draw(st.one_of(st.binary(max_size=6), ODD.map(str.encode), VALUES.map(as_yaml)))
        content = content[:at] + put + content[at + length :]
    return content


def as_yaml(value: Any) -> bytes:
    return str(yaml.safe_dump(value)).encode("utf-8", "surrogatepass")


@settings.get_profile("fuzzing")
@given(content=spoilt(TEXTS))
def test_recipe_text_spoilt_at_random(tmp_path: Path, ended: Any, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    try:
        recipe = Recipe.from_yaml(path)
    except ResattnError as error:
        assert str(path) in error.what
        assert error.mend
        assert len(error.what) < 4000 + 10 * len(content)  # it may repeat what was written
        ended("refused")
    else:
        path.write_text(recipe.to_yaml())
        assert Recipe.from_yaml(path) == recipe
        ended("read")


@settings.get_profile("fuzzing")
@given(values=st.dictionaries(st.sampled_from([*Recipe.__dataclass_fields__, "unknown"]), VALUES, max_size=4))
def test_recipe_fields_with_any_values(tmp_path: Path, ended: Any, values: dict[str, Any]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(as_yaml(values))
    try:
        recipe = Recipe.from_yaml(path)
    except ResattnError as error:
        assert str(path) in error.what
        ended("refused")
    else:
        for name, value in values.items():
            if not isinstance(value, dict):
                assert getattr(recipe, name) == value
        ended("read")


@settings.get_profile("fuzzing")
@given(content=spoilt(QUESTIONS))
def test_comparison_text_spoilt_at_random(tmp_path: Path, ended: Any, content: bytes) -> None:
    path = tmp_path / "question.yaml"
    path.write_bytes(content)
    try:
        comparison = read_comparison(path)
    except ResattnError as error:
        assert len(error.what) < 4000 + 10 * len(content)  # it may repeat what was written
        ended("refused")
    else:
        assert comparison.control in comparison.recipes
        ended("read")


@pytest.mark.parametrize("read", [Recipe.from_yaml, read_comparison])
def test_a_few_lines_that_stand_for_billions_of_values_are_refused(tmp_path: Path, read: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join([*lines, "model: *a11"]))
    with pytest.raises(ResattnError, match="aliases"):
        read(path)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", ""])
@pytest.mark.parametrize("find", [find_recipe, find_comparison])
def test_what_no_file_can_be_called_is_not_there(find: Any, name: str) -> None:
    with pytest.raises(ResattnError, match="there is no"):
        find(name)


def test_a_file_that_is_no_recipe_by_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(2**34)
    with pytest.raises(ResattnError, match="larger than 1,024 KiB"):
        Recipe.from_yaml(path)

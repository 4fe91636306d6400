import pytest

from resattn.errors import ResattnError
from resattn.experiments.plan import make_plan
from resattn.experiments.search_space import Choices, Range, in_words, parse_field, parse_search
from resattn.training.recipe import Optimization, Recipe

BASE = Recipe(steps=100, optimization=Optimization(lr=0.5))


@pytest.mark.parametrize(
    ("text", "field", "domain"),
    [
        ("optimization.lr=log:0.005:0.08", "optimization.lr", Range(0.005, 0.08, log=True)),
        ("label_smoothing=0:0.3", "label_smoothing", Range(0, 0.3)),
        ("augmentation.shift=int:0:8", "augmentation.shift", Range(0, 8, whole=True)),
        ("batch_size=log:16:256", "batch_size", Range(16, 256, whole=True, log=True)),
        ("batch-size = 64, 128", "batch_size", Choices((64, 128))),
        ("optimization.lr=1,0.5", "optimization.lr", Choices((1, 0.5))),
        ("optimization.optimizer=sgd,muon", "optimization.optimizer", Choices(("sgd", "muon"))),
        ("model_options.mask_width=16,32", "model_options.mask_width", Choices((16, 32))),
        ("time=20m,null", "time", Choices(("20m", None))),
        ("data=7,null", "data", Choices(("7", "null"))),
        ("model_options.masked_stages=1,1+2", "model_options.masked_stages", Choices((1, "1+2"))),
    ],
)
def test_specs_are_read_as_the_field_takes_them(text: str, field: str, domain: Choices | Range) -> None:
    assert parse_search([text], BASE).domains == {field: domain}


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("batch_sze=1,2", "unknown field batch_sze", "did you mean batch_size?"),
        ("optimization.l=1:2", "unknown field optimization.l", "did you mean optimization.lr?"),
        ("optimization=1,2", "is a group of fields", "such as optimization.optimizer"),
        ("batch_size.x=1,2", "batch_size is no group", "name batch_size itself"),
        ("batch_size=64:256", "takes whole numbers", "batch_size=int:64:256"),
        ("batch_size=0,64", "batch_size is 0", "lies between 1 and"),
        ("batch_size=64,many", "batch_size is 'many'", "takes a whole number"),
        ("label_smoothing=0:3", "label_smoothing is 3", "lies between 0 and 0.999"),
        ("optimization.lr=1:0.5", "nothing between 1 and 0.5", "the smaller first"),
        ("optimization.lr=nan:1", "nothing between nan and 1", "LOW:HIGH"),
        ("optimization.lr=log:0:1", "lies above 0", "optimization.lr=log:LOW:HIGH"),
        ("optimization.lr=log:a:b", "a:b is not", "optimization.lr=log:LOW:HIGH"),
        ("optimization.lr=0:1:2", "has 3", "optimization.lr=LOW:HIGH"),
        ("augmentation.shift=int:0.5:8", "are whole numbers", "augmentation.shift=int:LOW:HIGH"),
        ("augmentation.shift=int:0,8", "has 1", "augmentation.shift=int:LOW:HIGH"),
        ("optimization.lr=1", "one value", "--optimization.lr 1"),
        ("batch_size=8,8", "twice", "once"),
        ("validate_on=val,held-out", "held-out images", "another field"),
        ("batch_size", "no field, or no values", "FIELD=log:lo:hi"),
    ],
)
def test_what_cannot_be_searched_is_named_with_how_to_write_it(text: str, what: str, mend: str) -> None:
    with pytest.raises(ResattnError) as caught:
        parse_search([text], BASE)
    assert caught.value.what.startswith(f"--search {text}: ")
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_values_take_their_place_in_the_recipe() -> None:
    space = parse_search(["optimization.lr=1,2", "model_options.mask_width=16,32"], BASE)
    recipe = space.recipe({"optimization.lr": 2, "model_options.mask_width": 16})
    assert recipe == BASE.replace(optimization=Optimization(lr=2.0), model_options={"mask_width": 16})
    assert len(space.corners()) == 4
    assert space.example == space.recipe({"optimization.lr": 1, "model_options.mask_width": 16})
    assert parse_search(["label_smoothing=0:0.3"], BASE).example == BASE


def test_lists_of_a_model_s_options_are_joined_by_plus() -> None:
    space = parse_search(["model_options.masked_stages=1,1+2,2+3"], BASE)
    stages = [recipe.model_options["masked_stages"] for recipe in space.corners()]
    assert stages == [1, [1, 2], [2, 3]]
    assert parse_field("model_options.masked_stages=2+3", BASE, source="--set")[1] == "2+3"


def test_the_recipe_s_own_values_are_told_where_the_search_has_them() -> None:
    base = BASE.replace(model_options={"masked_stages": [2, 3]}, batch_size=64, label_smoothing=0.5)
    search = ["batch_size=32,64", "optimization.lr=log:0.01:0.9", "label_smoothing=0:0.3", "time=1m,null"]
    lists = ["model_options.masked_stages=1,2+3", "model_options.mask_width=16,32"]
    space = parse_search([*search, *lists], base)
    assert space.own == {"batch_size": 64, "optimization.lr": 0.5, "model_options.masked_stages": "2+3"}
    assert space.recipe(space.own) == base


def test_a_searched_length_replaces_the_others() -> None:
    space = parse_search(["epochs=1,2"], BASE)
    assert (space.recipe({"epochs": 2}).epochs, space.recipe({"epochs": 2}).steps) == (2, None)


def test_plans_hold_images_out_and_refuse_what_is_no_study() -> None:
    plan = make_plan("a", BASE, ["batch_size=8,16"], trials=3, time_limit="2h")
    assert plan.space.base.validate_on == "held-out"
    assert plan.time_limit == 7200
    for name, trials, search, what in (
        ("a/b", 3, ["batch_size=8,16"], "cannot be called"),
        ("a", 0, ["batch_size=8,16"], "--trials is 0"),
        ("a", 3, [], "nothing to search"),
        ("a", 3, ["batch_size=8,16", "batch-size=4,8"], "searched twice"),
    ):
        with pytest.raises(ResattnError, match=what):
            make_plan(name, BASE, search, trials=trials)


def test_values_are_told_with_short_names_where_those_are_clear() -> None:
    values = {"optimization.lr": 0.0213499, "augmentation.lr": 3, "model_options.x": None, "y": True}
    assert in_words(values) == "optimization.lr 0.02135, augmentation.lr 3, x null, y true"

"""Arms that could not be trained, that are measured on other images, or that are one network twice."""

from pathlib import Path
from typing import Any

import pytest
from toy_comparison import POOL, TOY, toy

from resattn.data.image_folder import prepare_image_folder
from resattn.errors import ResattnError
from resattn.experiments.arms_check import require_arms_fit
from resattn.experiments.comparing import compare

MINI: dict[str, Any] = {**TOY["fields"], "model": "resattn_mini"}


@pytest.mark.parametrize(
    ("fields", "arm"),
    [
        (TOY["fields"], {"model_options": {"mask_activation": "tanh"}}),  # of a network without masks
        (MINI, {"model_options": {"learning": "residual"}}),  # as it is anyway
        (MINI, {"model_options": {"drop_rate": 0.0}}),
    ],
)
def test_options_that_change_nothing_are_refused(
    dots: str, fields: dict[str, Any], arm: dict[str, Any]
) -> None:
    comparison = toy(fields=fields, arms={"other": arm})
    with pytest.raises(ResattnError, match=r"arm other changes nothing: .* the network of plain"):
        compare(comparison)
    assert not POOL.exists()


@pytest.mark.parametrize(
    "options",
    [{"mask_activation": "tanh"}, {"learning": "naive"}, {"drop_rate": 0.1}, {"masked_stages": [1]}],
)
def test_options_that_change_something_are_not(dots: str, options: dict[str, Any]) -> None:
    comparison = toy(
        fields=MINI, arms={"other": {"model_options": options}, "hot": {"optimization.lr": 0.01}}
    )
    require_arms_fit(comparison.recipes)


@pytest.mark.parametrize(
    ("optimizer", "fields"),
    [
        ("adamw", {"optimization.rest_lr": 0.5}),
        ("adamw", {"optimization": {"muon_iterations": 3}}),
        ("muon", {"optimization.beta2": 0.5}),
        ("muon", {"size_ramp": 0.1}),  # images do not grow
        ("muon", {"augmentation.mix_until": 0.5}),  # none are mixed
    ],
)
def test_fields_that_have_no_say_beside_others_are_refused(
    dots: str, optimizer: str, fields: dict[str, Any]
) -> None:
    base = {**TOY["fields"], "optimization": {"optimizer": optimizer}}
    with pytest.raises(ResattnError, match="arms.other changes nothing"):
        toy(fields=base, arms={"other": fields})


def test_arms_are_measured_on_the_same_images_at_whatever_size(dots: str, tmp_path: Path, draw_dots) -> None:
    names = {"red": (1, 0, 0), "blue": (0, 0, 1)}
    for name, images, size in (("many", 60, 16), ("large", 60, 24), ("few", 50, 16), ("others", 60, 16)):
        folder = draw_dots(tmp_path / name, names, images=images, side=16)
        for file in folder.glob("*/*") if name == "others" else ():
            file.rename(file.with_stem(f"other-{file.stem}"))
        prepare_image_folder(folder, name=name, size=size, val_share=0.2)
    fields = {**TOY["fields"], "data": "many"}
    require_arms_fit(toy(fields=fields, arms={"large": {"data": "large"}}).recipes)
    for data in ("few", "others"):
        with pytest.raises(ResattnError, match=f"arm a is measured on {data}, and plain on many"):
            compare(toy(fields=fields, arms={"a": {"data": data}}))


def test_what_would_stop_an_arm_later_stops_the_comparison_before_the_first_run(
    dots: str, trained_dots
) -> None:
    for arm, told in (
        ({"augmentation.shift": 64}, r"arm other: augmentation\.shift is 64"),
        ({"data": "nowhere"}, "arm other: there is no data set 'nowhere'"),
        ({"start_from": str(trained_dots.run)}, "arm other: .* holds weights of resattn_mini"),
    ):
        with pytest.raises(ResattnError, match=told):
            compare(toy(arms={"other": arm}))
        assert not POOL.exists()

"""Building by name: what is recorded, what is refused, and what the options of the paper's studies change."""

from typing import Any

import pytest
import timm
import torch

from resattn.errors import ResattnError
from resattn.models import create_model, list_variants
from resattn.models.cost import multiply_accumulates, parameters
from resattn.models.registry import build_described, normalization


def test_timm_and_we_build_the_same() -> None:
    torch.manual_seed(0)
    ours = create_model("resattn_mini", num_classes=3, drop_rate=0.1)
    torch.manual_seed(0)
    theirs = timm.create_model("resattn_mini", num_classes=3, drop_rate=0.1)
    assert type(ours) is type(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert ours.variant == "resattn_mini"
    assert ours.options == {"drop_rate": 0.1}
    assert ours.head.dropout.p == 0.1


def test_a_recorded_network_can_be_built_again() -> None:
    with torch.device("meta"):
        network = create_model("resattn_cifar_56", num_classes=3, mask_structure="local", pre_units=2)
        again = create_model(network.variant, num_classes=network.num_classes, **network.options)
    assert network.options == {"mask_structure": "local", "pre_units": 2}
    assert str(again) == str(network)


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("resattn_mimi", "did you mean resattn_mini"),
        ("vgg", "choose from: resattn_56, "),
        ("", "choose from: "),
    ],
)
def test_an_unknown_name_is_refused(name: str, mend: str) -> None:
    with pytest.raises(ResattnError) as refused:
        create_model(name)
    assert refused.value.what == f"there is no model {name!r}"
    assert mend in refused.value.mend


@pytest.mark.parametrize(
    ("name", "option"),
    [("resattn_mini", "depth_of_mask"), ("resattn_mini", "widths"), ("resattn_56", "modules")],
)
def test_an_option_it_does_not_have_is_refused(name: str, option: str) -> None:
    with pytest.raises(ResattnError) as refused:
        create_model(name, **{option: 3})
    assert refused.value.what == f"{name} has no option {option!r}"
    assert "choose from: drop_rate, in_chans, learning" in refused.value.mend
    assert option not in refused.value.mend


def test_the_list_has_no_order_of_chance() -> None:
    names = list_variants()
    assert names[:3] == ["resattn_56", "resattn_92", "resattnext_56"]
    assert len(set(names)) == len(names)
    names.clear()
    assert list_variants()


def test_other_channel_counts_get_the_average_of_three() -> None:
    assert normalization(3)["mean"] == (0.485, 0.456, 0.406)
    assert normalization(1)["mean"] == pytest.approx((0.449,))
    assert len(normalization(5)["std"]) == 5


@pytest.fixture(scope="module")
def paper() -> tuple[int, int]:
    """Parameters and multiply-accumulates with the paper's values for all options."""
    with torch.device("meta"):
        network = create_model("resattn_cifar_56")
    return parameters(network), multiply_accumulates(network, 32)


@pytest.mark.parametrize(
    ("options", "parameters_change", "macs_change"),
    [
        ({"learning": "naive"}, "same", "same"),
        ({"learning": "none"}, "less", "less"),
        ({"mask_activation": "channel"}, "same", "same"),
        ({"mask_activation": "spatial"}, "same", "same"),
        ({"upsampling": "nearest"}, "same", "same"),
        ({"mask_structure": "local"}, "same", "more"),
        ({"mask_skip": "none"}, "less", "less"),
        ({"trunk_units": 3}, "more", "more"),
        ({"pre_units": 2}, "more", "more"),
        ({"mask_units": 2}, "more", "more"),
    ],
)
def test_options_of_the_paper_s_studies(
    paper: tuple[int, int], options: dict[str, Any], parameters_change: str, macs_change: str
) -> None:
    def change(before: int, after: int) -> str:
        return "same" if before == after else "more" if after > before else "less"

    with torch.device("meta"):
        study = create_model("resattn_cifar_56", **options)
    assert change(paper[0], parameters(study)) == parameters_change
    assert change(paper[1], multiply_accumulates(study, 32)) == macs_change
    masked = [stage[0].mask is not None for stage in study.stages]
    assert masked == [options.get("learning") != "none"] * 3


def test_the_imagenet_form_has_the_same_options() -> None:
    options = {
        "mask_activation": "channel",
        "upsampling": "nearest",
        "mask_skip": "none",
        "learning": "naive",
    }
    network = create_model("resattn_inception_56", num_classes=4, **options).eval()
    with torch.no_grad():
        masks = network.forward_with_masks(torch.rand(1, 3, 33, 33)).masks
    assert [stage[0].learning for stage in network.stages] == ["naive", "naive", "naive", "residual"]
    assert masks["stage1.0"].shape == (1, 256, 8, 8)
    torch.testing.assert_close(masks["stage1.0"].square().sum(1), torch.ones(1, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning": "soft"}, "learning must be one of"),
        ({"mask_activation": "softmax"}, "activation must be one of"),
        ({"mask_structure": "encoder-decoder"}, "mask_structure must be one of"),
        ({"mask_skip": "units"}, "mask_skip must be one of"),
        ({"upsampling": "bicubic"}, "upsampling must be one of"),
        ({"trunk_units": 0}, "must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("resattn_cifar_56", **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"checkpoint_path": "x.pth"}, "may not contain checkpoint_path"),
        ({"pretrained": True, "num_classes": 5}, "may not contain num_classes, pretrained"),
        ({"mask_activation": "relu"}, "cannot be built with the options .*mask_activation must be one of"),
        ({"masked_stages": [4]}, "cannot be built with the options .*masked_stages"),
        ({"mask_width": "wide"}, "cannot be built with the options"),
        ({"learning": "naiv"}, "cannot be built with the options .*learning must be one of"),
        ({"mask_width": 5000}, "hold a number beyond 4096"),
        ({"depth_of_mask": 2}, "has no option 'depth_of_mask'"),
    ],
)
def test_what_a_recipe_says_of_a_network_is_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ResattnError, match=told):
        build_described("resattn_mini", num_classes=2, options=options)

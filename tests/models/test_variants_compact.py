"""The compact frame with other units in it."""

import pytest
import torch

from resattn.models import create_model
from resattn.models.cost import multiply_accumulates, parameters

BASIC = 102_287_360


@pytest.mark.parametrize(
    ("unit", "count", "macs"),
    [
        ("basic", 2_809_096, BASIC),
        ("bottleneck", 3_627_272, 133_898_240),
        ("resnext", 3_477_768, 140_976_128),
        ("inception_resnet", 3_617_880, 132_210_688),
    ],
)
def test_each_unit_fits_the_frame_at_a_like_cost(unit: str, count: int, macs: int) -> None:
    plain = create_model("resattn_mini_plain", unit=unit)
    assert (parameters(plain), multiply_accumulates(plain, 64)) == (count, macs)
    assert BASIC <= macs < 1.4 * BASIC
    torch.manual_seed(0)
    masked = create_model("resattn_mini", unit=unit, num_classes=7)
    logits, masks = masked.forward_with_masks(torch.rand(2, 3, 40, 48))
    assert list(masks) == ["stage1.0", "stage2.0"]
    logits.square().sum().backward()
    assert [name for name, weight in masked.named_parameters() if weight.grad is None] == []
    assert torch.isfinite(logits).all()


def test_a_unit_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="unit must be one of .*'resnext'.*, not 'wide'"):
        create_model("resattn_mini", unit="wide")


def test_half_of_the_small_widths_is_the_mini_network() -> None:
    halved = create_model("resattn_small", width_scale=0.5)
    shapes = {name: weight.shape for name, weight in halved.state_dict().items()}
    mini = create_model("resattn_mini")
    assert shapes == {name: weight.shape for name, weight in mini.state_dict().items()}


def test_each_further_trunk_unit_is_two_convolutions_and_two_norms_a_stage() -> None:
    one, three = (create_model("resattn_mini_plain", trunk_units=units) for units in (1, 3))
    unit = sum(2 * 9 * width**2 + 2 * 2 * width for width in (64, 128, 256))
    assert parameters(three) - parameters(one) == 2 * unit
    assert {name for name in one.state_dict() if "trunk" not in name} == {
        name for name in three.state_dict() if "trunk" not in name
    }


def test_units_behind_the_stem_keep_its_resolution_and_channels() -> None:
    network = create_model("resattn_mini", stem_units=2, num_classes=7)
    assert network.stem(torch.rand(1, 3, 64, 48)).shape == (1, 32, 32, 24)
    logits, masks = network.forward_with_masks(torch.rand(2, 3, 64, 48))
    assert [mask.shape[2:] for mask in masks.values()] == [(16, 12), (8, 6)]
    logits.square().sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("option", [{"trunk_units": 0}, {"trunk_units": -2}, {"stem_units": -1}])
def test_fewer_units_than_none_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="trunk_units must be 1 or more and stem_units 0"):
        create_model("resattn_mini", **option)


@pytest.mark.parametrize("option", [{"width_scale": 0.001}, {"stem_width": 0}, {"mask_width": 0}])
def test_a_network_without_channels_is_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(option))} leaves no channels"):
        create_model("resattn_mini", **option)

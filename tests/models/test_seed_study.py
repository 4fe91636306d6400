"""The five networks of the 2017 study: their exact sizes, their parts, and where they depart from it."""

import math
import re

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from resattn.errors import ResattnError
from resattn.models import ResidualAttentionNetwork
from resattn.models.cost import multiply_accumulates, parameters
from resattn.models.network import IMAGENET_MEAN
from resattn.models.seed_study import inception, simple_residual
from resattn.models.seed_units import SeedDownUnit, SeedMask, SeedReduction, SeedResidualInception, SeedUnit

NAMES = (
    "seed_residual",
    "seed_inception",
    "seed_inception_attention_v2",
    "seed_inception_attention_v3",
    "seed_inception_attention_v4",
)
WITH_ATTENTION = NAMES[2:]
SMALLEST = {name: 8 if name == "seed_residual" else 15 if name.endswith("v3") else 7 for name in NAMES}
# The two 1x1 convolutions (320 -> 196) of the third version whose outputs the study never used.
DEAD_PARAMETERS = 2 * (320 * 196 + 196)


def build(name: str, **options: object) -> ResidualAttentionNetwork:
    torch.manual_seed(0)
    network: ResidualAttentionNetwork = timm.create_model(name, **options)
    return network


@pytest.mark.parametrize(
    ("name", "options", "expected_parameters", "expected_macs"),
    [
        ("seed_residual", {}, 21_956_936, 5_172_465_664),
        ("seed_residual", {"hidden_features": 1000}, 22_567_536, 5_173_075_264),
        ("seed_inception", {}, 2_061_616, 1_502_997_312),
        ("seed_inception_attention_v2", {}, 2_362_224, 1_991_633_728),
        ("seed_inception_attention_v3", {}, 4_754_748 - DEAD_PARAMETERS, 2_177_408_064),
        ("seed_inception_attention_v4", {}, 2_288_112, 1_972_759_360),
    ],
)
def test_cost_is_the_studys(
    name: str, options: dict[str, object], expected_parameters: int, expected_macs: int
) -> None:
    with torch.device("meta"):
        network = build(name, **options)
    assert parameters(network) == expected_parameters
    assert multiply_accumulates(network, 64) == expected_macs


def test_the_dead_convolutions_are_all_that_is_missing() -> None:
    assert DEAD_PARAMETERS == 125_832


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_keys_are_the_contract(name: str) -> None:
    with torch.device("meta"):
        keys = build(name).state_dict().keys()
    contract = re.compile(r"stem\.|stages\.\d+\.\d+\.(pre|trunk|mask|post)\.|head\.")
    assert [key for key in keys if not contract.match(key)] == []
    assert any(".mask." in key for key in keys) == (name in WITH_ATTENTION)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["smallest", (33, 27)])
def test_any_size_works_and_every_parameter_learns(name: str, size: str | tuple[int, int]) -> None:
    height, width = (SMALLEST[name],) * 2 if isinstance(size, str) else size
    network = build(name, num_classes=5, drop_rate=0.0)
    F.cross_entropy(network(torch.rand(2, 3, height, width)), torch.tensor([0, 3])).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    # At the smallest size parts of the masks are one pixel, which batch normalisation may make a constant.
    if size != "smallest":
        assert [key for key, p in network.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize("name", NAMES)
def test_masks_have_their_keys_shapes_and_range(name: str) -> None:
    network = build(name, num_classes=5).eval()
    images = torch.rand(2, 3, 21, 18)
    with torch.no_grad():
        output = network.forward_with_masks(images)
        torch.testing.assert_close(output.logits, network(images), rtol=0, atol=0)
    assert list(output.masks) == (["stage1.0"] if name in WITH_ATTENTION else [])
    for mask in output.masks.values():
        assert mask.shape == (2, 64, 21, 18)
        assert mask.min() >= 0
        assert mask.max() <= 1


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_zero_mask_logits_weight_the_trunk_by_one_and_a_half(name: str) -> None:
    module = build(name).eval().stages[0][0]
    nn.init.zeros_(module.mask.project.weight)
    x = torch.randn(1, 64, 11, 10)
    with torch.no_grad():
        features = module.pre(x)
        torch.testing.assert_close(module(x), module.post(1.5 * module.trunk(features)))


@pytest.mark.parametrize(("name", "window"), list(zip(NAMES, (8, 15, 15, 7, 15), strict=True)))
def test_the_global_pool_is_the_studys_window_at_64_pixels(name: str, window: int) -> None:
    network = build(name, num_classes=3).eval().double()
    with torch.no_grad():
        features = network.forward_features(torch.rand(1, 3, 64, 64, dtype=torch.double))
        assert features.shape == (1, network.num_features, window, window)
        pooled = F.avg_pool2d(features, window).flatten(1)
        hidden = network.head.hidden(pooled) if network.head.hidden is not None else pooled
        torch.testing.assert_close(network.forward_head(features), network.head.fc(hidden))


@pytest.mark.parametrize("name", NAMES[1:])
def test_dropout_is_applied(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, num_classes=0, hidden_features=0).train()
    dropped = network.forward_head(torch.ones(64, network.num_features, 1, 1))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_layers_begin_as_tensorflow_makes_them(name: str) -> None:
    for layer in build(name).modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (1e-3, 0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            assert not layer.bias.any()
            area = math.prod(layer.weight.shape[2:])
            bound = math.sqrt(6 / (area * (layer.weight.shape[0] + layer.weight.shape[1])))
            largest = layer.weight.abs().max().item()
            assert largest <= bound * (1 + 1e-6)
            assert largest > 0.95 * bound


def test_images_reach_the_stem_on_the_scale_of_0_to_255_about_the_mean() -> None:
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(build("seed_residual").normalize(images), 255 * images - 255 * mean)


def test_a_unit_adds_its_residual_to_its_raw_input() -> None:
    unit = SeedUnit(4).eval()
    nn.init.zeros_(unit.residual[-1].weight)
    nn.init.ones_(unit.residual[-1].bias)
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(unit(x), x + 1)


def test_a_down_units_shortcut_is_the_average_between_zero_channels() -> None:
    unit = SeedDownUnit(4, 8).eval()
    nn.init.zeros_(unit.residual[-1].weight)
    nn.init.zeros_(unit.residual[-1].bias)
    x = torch.randn(1, 4, 7, 6)
    y = unit(x)
    assert y.shape == (1, 8, 3, 3)
    assert not y[:, :2].any()
    assert not y[:, 6:].any()
    torch.testing.assert_close(y[:, 2:6, 1, 2], x[:, :, 2:4, 4:6].mean((2, 3)))


def test_a_reduction_pools_its_raw_input_and_does_not_pad() -> None:
    reduction = SeedReduction(4, 6, lead_width=5, lead=(nn.Conv2d(4, 5, 3, padding=1),)).eval()
    nn.init.constant_(reduction.norm.weight, 0.0)
    x = torch.randn(2, 4, 8, 9)
    y = reduction(x)
    # TensorFlow's VALID: ceil((n - 3 + 1) / 2)
    assert y.shape == (2, 4 + 6 + 6, math.ceil(6 / 2), math.ceil(7 / 2))
    torch.testing.assert_close(y[:, :4, 1, 2], x[:, :, 2:5, 4:7].amax((2, 3)).relu())


def test_the_residual_inception_adds_to_its_activated_input() -> None:
    module = SeedResidualInception(12).eval()
    nn.init.zeros_(module.project.weight)
    nn.init.constant_(module.project.bias, -0.25)
    x = torch.randn(2, 12, 5, 4)
    activated = (x / math.sqrt(1 + 1e-3)).relu()
    torch.testing.assert_close(module(x), (activated - 0.25).relu())


def test_a_mask_is_enlarged_by_tensorflows_rule() -> None:
    mask = SeedMask(1, encoder=(nn.Identity(), nn.Identity()), decoder=(nn.Identity(),))
    nn.init.ones_(mask.project.weight)
    nn.init.zeros_(mask.project.bias)
    # Max-pooled twice this is [1, 5]; enlarged [1, 3, 5, 5] and then [1, 2, 3, 4, 5, 5, 5, 5].
    row = torch.tensor([0.0, 1, 0, 1, 2, 5, 0, 0]).expand(1, 1, 8, 8)
    assert mask.logits(row)[0, 0, 3].tolist() == [1, 2, 3, 4, 5, 5, 5, 5]
    torch.testing.assert_close(mask(row), mask.logits(row).sigmoid())


def test_what_distinguishes_the_versions_is_no_option() -> None:
    with pytest.raises(ResattnError, match="no option 'first_stage'"):
        build("seed_inception_attention_v2", first_stage="plain")


def test_other_channels_and_classes() -> None:
    for network in (
        simple_residual(num_classes=7, in_chans=1),
        inception(first_stage="plain", third_reduction="none", num_classes=7, in_chans=1),
    ):
        assert network.eval()(torch.rand(1, 1, 16, 16)).shape == (1, 7)

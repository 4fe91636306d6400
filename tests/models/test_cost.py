"""The exact counts of the paper's networks and of the compact family."""

import pytest
import torch
from torch import nn

from resattn.models import create_model
from resattn.models.cost import multiply_accumulates, parameters


def meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, **options)


def batch_statistics(model: nn.Module) -> int:
    return sum(
        buffer.numel()
        for name, buffer in model.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    )


@pytest.mark.parametrize(
    ("name", "learnable", "with_statistics", "macs", "with_200_classes"),
    [
        ("resattn_56", 31_810_728, 31_883_432, 6_270_836_736, 30_171_528),
        ("resattn_92", 52_466_344, 52_599_976, 10_533_789_696, 50_827_144),
        ("resattnext_56", 31_318_824, 31_417_256, 6_419_106_816, 29_679_624),
    ],
)
def test_imagenet_form(
    name: str, learnable: int, with_statistics: int, macs: int, with_200_classes: int
) -> None:
    model = meta(name)
    assert parameters(model) == learnable
    assert parameters(model) + batch_statistics(model) == with_statistics
    assert multiply_accumulates(model, 224) == macs
    assert parameters(meta(name, num_classes=200)) == with_200_classes


def test_inception_form_costs_what_was_published() -> None:
    model = meta("resattn_inception_56")
    assert parameters(model) == pytest.approx(31.9e6, rel=0.02)
    assert multiply_accumulates(model, 224) == pytest.approx(6.3e9, rel=0.02)


@pytest.mark.parametrize(
    ("depth", "learnable"),
    [(56, 1_030_394), (92, 1_841_274), (128, 2_652_154), (164, 3_463_034), (236, 5_084_794)],
)
def test_cifar_form(depth: int, learnable: int) -> None:
    model = meta(f"resattn_cifar_{depth}")
    assert parameters(model) == learnable
    # The depth in the name is what lies along stem, trunks and classifier.
    layers = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and ".mask." not in name and "projection" not in name
    ]
    assert len(layers) == depth


@pytest.mark.parametrize("size", [64, 48, (63, 95)])
@pytest.mark.parametrize("name", ["resattn_mini", "resattn_small"])
def test_controls_cost_what_their_twins_do(name: str, size: int | tuple[int, int]) -> None:
    attention = multiply_accumulates(meta(name), size)
    plain = multiply_accumulates(meta(f"{name}_plain"), size)
    assert plain < attention < 1.02 * plain


def test_compact_counts() -> None:
    assert parameters(meta("resattn_mini_plain")) == 2_809_096
    assert multiply_accumulates(meta("resattn_mini_plain"), 64) == 102_287_360
    assert parameters(meta("resattn_mini")) == 2_889_544
    assert multiply_accumulates(meta("resattn_mini"), 64) == 104_250_496
    assert parameters(meta("resattn_small")) == 11_222_536
    assert multiply_accumulates(meta("resattn_small"), 64) == 397_581_440


def test_counting_by_hand_and_leaving_the_model_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    macs = 4 * 8 * 27 + 4 * 8 * 18 + 32 * 5
    assert multiply_accumulates(model, 4) == macs
    assert all(module.training for module in model.modules())
    assert multiply_accumulates(model.eval(), (4, 4)) == macs
    assert multiply_accumulates(model.to(torch.bfloat16), 4) == macs
    assert not model.training
    assert all(
        torch.equal(tensor.float(), before[name].float().to(tensor.dtype).float())
        for name, tensor in model.state_dict().items()
    )
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    model[0].weight.requires_grad_(False)
    assert parameters(model) == 8 + 16 + 8 * 18 + 8 + 32 * 5 + 5

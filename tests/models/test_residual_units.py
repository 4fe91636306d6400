"""The units' one contract, and each against an implementation of someone else."""

import re

import pytest
import torch
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnetv2 import DownsampleConv, PreActBasic, PreActBottleneck
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck

from resattn.models.inception_units import InceptionResNetA, InceptionResNetB, InceptionResNetC
from resattn.models.residual_units import (
    PreActivationBasic,
    PreActivationBottleneck,
    ResNeXtUnit,
    UnitFactory,
)

UNITS = [
    PreActivationBasic,
    PreActivationBottleneck,
    ResNeXtUnit,
    InceptionResNetA,
    InceptionResNetB,
    InceptionResNetC,
]
SHAPES = [(64, 64, 1), (64, 128, 1), (64, 128, 2), (64, 64, 2)]


def randomize(model: nn.Module) -> nn.Module:
    """Every weight and statistic its own, so that no two of them can be exchanged unseen."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(std=0.2, generator=generator)
            if "running_var" in name:
                tensor.abs_().add_(0.5)
    return model


def assert_twins(ours: nn.Module, twin: nn.Module, x: Tensor, names: dict[str, str]) -> None:
    """The same weights give the same output and the same gradient, in evaluation and in training."""
    weights = ours.state_dict()
    for our_name, their_name in names.items():
        weights = {key.replace(our_name, their_name): tensor for key, tensor in weights.items()}
    twin.load_state_dict(weights)
    for training in (False, True):
        given, same = (x.clone().requires_grad_() for _ in range(2))
        out, expected = ours.train(training)(given), twin.train(training)(same)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        out.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(given.grad, same.grad, rtol=1e-3, atol=1e-3)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 64, 9, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), SHAPES)
@pytest.mark.parametrize("unit", UNITS)
def test_contract(unit: UnitFactory, in_channels: int, out_channels: int, stride: int, x: Tensor) -> None:
    module = unit(in_channels, out_channels, stride)
    given = x.clone()
    out = module(x)
    assert torch.equal(x, given)
    assert out.shape == (2, out_channels, -(-9 // stride), -(-12 // stride))
    assert bool((out >= 0).all()) == unit.activates_output
    if in_channels == out_channels and stride == 1:
        # Nothing is in the way of the identity: without its residual the unit returns what it is given.
        for name, parameter in module.named_parameters():
            if name.startswith(("conv", "norm3")):
                parameter.data.zero_()
        expected = functional.relu(x) if unit.activates_output else x
        torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), SHAPES)
@pytest.mark.parametrize(
    ("unit", "theirs"), [(PreActivationBasic, PreActBasic), (PreActivationBottleneck, PreActBottleneck)]
)
def test_pre_activation_units_are_timm_s(
    unit: UnitFactory, theirs: type[nn.Module], in_channels: int, out_channels: int, stride: int, x: Tensor
) -> None:
    ours = randomize(unit(in_channels, out_channels, stride))
    identity = in_channels == out_channels and stride == 1
    twin = theirs(
        in_channels,
        out_channels,
        stride=stride,
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
        proj_layer=None if identity else DownsampleConv,
    )
    assert_twins(ours, twin, x, {"projection": "downsample.conv"})


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), SHAPES)
def test_resnext_unit_is_torchvision_s(in_channels: int, out_channels: int, stride: int, x: Tensor) -> None:
    ours = randomize(ResNeXtUnit(in_channels, out_channels, stride))
    downsample = None
    if in_channels != out_channels or stride != 1:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )
    twin = Bottleneck(in_channels, out_channels // 4, stride, downsample, groups=32, base_width=4)
    assert_twins(ours, twin, x, {"norm": "bn", "projection": "downsample"})


def inception(x: Tensor, weights: dict[str, Tensor], stride: int, scale: float) -> Tensor:
    """An Inception-ResNet unit of any branches, from its state dict alone, in evaluation mode."""

    def norm(x: Tensor, at: str) -> Tensor:
        statistics = (weights[f"{at}.running_mean"], weights[f"{at}.running_var"])
        return functional.batch_norm(x, *statistics, weights[f"{at}.weight"], weights[f"{at}.bias"])

    outputs = []
    for b in range(sum(re.fullmatch(r"branches\.\d\.0\.weight", key) is not None for key in weights)):
        y, k, left = x, 0, [stride, stride]
        while f"branches.{b}.{k}.weight" in weights:
            kernel = weights[f"branches.{b}.{k}.weight"]
            last = f"branches.{b}.{k + 3}.weight" not in weights
            step = [left[axis] if last or kernel.shape[2 + axis] > 1 else 1 for axis in (0, 1)]
            left = [1 if step[axis] > 1 else left[axis] for axis in (0, 1)]
            padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
            y = functional.conv2d(y, kernel, stride=step, padding=padding)
            y = norm(y, f"branches.{b}.{k + 1}").relu()
            k += 3
        outputs.append(y)
    residual = functional.conv2d(torch.cat(outputs, 1), weights["conv.weight"], weights["conv.bias"])
    if "projection.0.weight" in weights:
        x = norm(functional.conv2d(x, weights["projection.0.weight"], stride=stride), "projection.1")
    return (x + scale * residual).relu()


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), SHAPES)
@pytest.mark.parametrize(
    ("unit", "scale", "kernels"),
    [
        (InceptionResNetA, 0.17, [["1x1"], ["1x1", "3x3"], ["1x1", "3x3", "3x3"]]),
        (InceptionResNetB, 0.10, [["1x1"], ["1x1", "1x7", "7x1"]]),
        (InceptionResNetC, 0.20, [["1x1"], ["1x1", "1x3", "3x1"]]),
    ],
)
def test_inception_units(
    unit: UnitFactory,
    scale: float,
    kernels: list[list[str]],
    in_channels: int,
    out_channels: int,
    stride: int,
    x: Tensor,
) -> None:
    ours = randomize(unit(in_channels, out_channels, stride)).eval()
    expected = inception(x, ours.state_dict(), stride, scale)
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)
    branches = ours.get_submodule("branches")
    found = [
        [layer for layer in branch.modules() if isinstance(layer, nn.Conv2d)]
        for branch in branches.children()
    ]
    assert [
        [f"{conv.kernel_size[0]}x{conv.kernel_size[1]}" for conv in branch] for branch in found
    ] == kernels


def test_inception_units_have_the_published_widths_where_they_say_so() -> None:
    with torch.device("meta"):
        b, c = InceptionResNetB(1024, 1024, 1), InceptionResNetC(2048, 2048, 1)
    assert [conv.out_channels for conv in b.branches.modules() if isinstance(conv, nn.Conv2d)] == [
        192,
        128,
        160,
        192,
    ]
    # Block C is twice as wide as published.
    assert [conv.out_channels // 2 for conv in c.branches.modules() if isinstance(conv, nn.Conv2d)] == [
        192,
        192,
        224,
        256,
    ]

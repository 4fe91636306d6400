"""The compact family's mask, and its plain control against other people's units."""

from itertools import pairwise

import pytest
import torch
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnetv2 import DownsampleConv, PreActBasic
from torch import Tensor, nn
from torch.nn import functional

from resattn.models import create_model
from resattn.models.compact_mask import CompactMask


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 16, 13, 10, generator=torch.Generator().manual_seed(0))


def woken(mask: CompactMask) -> CompactMask:
    """The mask after some training: nothing is zero any more."""
    generator = torch.Generator().manual_seed(1)
    for parameter in mask.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return mask.eval()


def test_it_begins_at_one_half_everywhere(x: Tensor) -> None:
    mask = CompactMask(16)
    assert mask(x).shape == x.shape
    assert mask(x).unique().tolist() == [0.5]


def test_with_tanh_it_begins_as_the_identity_and_can_silence(x: Tensor) -> None:
    mask = CompactMask(16, activation="tanh")
    assert mask(x).unique().tolist() == [0]
    mask.gate.bias.data.fill_(-9)
    assert (1 + mask(x)).max() < 1e-3


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_logits_are_the_enlarged_readings_of_all_scales_and_one_gate(depth: int, x: Tensor) -> None:
    """Reading first and enlarging after gives what enlarging all channels and reading after would."""
    mask = woken(CompactMask(16, width=8, depth=depth))
    features = [x]
    for down in mask.down:
        features.append(down(features[-1]))
    spatial = torch.zeros(())
    for level in range(depth, 0, -1):
        read = nn.Conv2d(8, 1, 1, bias=False)
        read.weight = mask.read[level - 1].weight
        wide = features[level]
        for finer in reversed(features[:level]):
            wide = functional.interpolate(wide, size=finer.shape[-2:], mode="bilinear", align_corners=True)
        spatial = spatial + read(wide)
    gate = mask.gate(features[-1].mean((2, 3)))
    torch.testing.assert_close(mask.logits(x), spatial + gate[:, :, None, None], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mask(x), torch.sigmoid(mask.logits(x)))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7), (16, 16), (29, 24)])
def test_any_size_works(size: tuple[int, int]) -> None:
    mask = woken(CompactMask(16, width=8))
    out = mask(torch.randn(2, 16, *size))
    assert out.shape == (2, 16, *size)
    assert out.min() > 0
    assert out.max() < 1


def test_channels_last_features_stay_channels_last(x: Tensor) -> None:
    mask = woken(CompactMask(16)).to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    assert mask(x).is_contiguous(memory_format=torch.channels_last)


def test_a_mask_needs_a_scale() -> None:
    with pytest.raises(ValueError, match="at least one scale, not 0"):
        CompactMask(16, depth=0)


def test_another_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_activation must be one of .*'relu'"):
        create_model("resattn_mini", mask_activation="relu")


def test_options_of_the_family() -> None:
    images = torch.rand(2, 3, 40, 40)
    network = create_model("resattn_mini", num_classes=5, masked_stages=[1, 3], mask_depth=1, mask_width=16)
    assert list(network.forward_with_masks(images).masks) == ["stage1.0", "stage3.0"]
    one = create_model("resattn_mini", masked_stages=3, mask_depth=1)
    assert list(one.forward_with_masks(images).masks) == ["stage3.0"]
    naive = create_model("resattn_mini", learning="naive")
    assert {stage[0].learning for stage in naive.stages} >= {"naive"}
    bare = create_model("resattn_mini", num_classes=5, learning="none")
    plain = create_model("resattn_mini_plain", num_classes=5)
    plain.load_state_dict(bare.state_dict())
    assert torch.equal(plain.eval()(images), bare.eval()(images))
    with pytest.raises(ValueError, match=r"masked_stages \(0, 2\) must be of 1 ... 3"):
        create_model("resattn_mini", masked_stages=(0, 2))


def test_a_zero_mask_is_the_plain_control() -> None:
    """With masks forced to zero the attention network is its control, weight by weight."""

    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    network, plain = create_model("resattn_mini").eval(), create_model("resattn_mini_plain").eval()
    shared = {key: tensor for key, tensor in network.state_dict().items() if ".mask." not in key}
    plain.load_state_dict(shared)
    for stage in (0, 1):
        network.stages[stage][0].mask = Zero()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), plain(images))


def test_the_plain_control_is_a_pre_activation_resnet_of_timm_s_units() -> None:
    plain = create_model("resattn_mini_plain", num_classes=9).eval()
    widths = [32, 64, 128, 256]
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, 2, 1, bias=False)]
    for before, width in pairwise(widths):
        for unit_in, stride in ((before, 2), (width, 1)):
            shortcut = None if unit_in == width and stride == 1 else DownsampleConv
            layers.append(
                PreActBasic(
                    unit_in,
                    width,
                    stride=stride,
                    conv_layer=create_conv2d,
                    norm_layer=BatchNormAct2d,
                    proj_layer=shortcut,
                )
            )
    twin = nn.Sequential(
        *layers, nn.BatchNorm2d(256), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 9)
    ).eval()
    names = ["stem.0", *(f"stages.{i}.0.{part}" for i in range(3) for part in ("pre", "trunk"))]
    names += ["head.norm", "", "", "", "head.fc"]
    for layer, name in zip(twin, names, strict=True):
        if name:
            weights = plain.get_submodule(name).state_dict()
            layer.load_state_dict(
                {key.replace("projection", "downsample.conv"): tensor for key, tensor in weights.items()}
            )
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), twin(plain.normalize(images)), rtol=1e-4, atol=1e-4)

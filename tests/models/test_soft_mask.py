"""The hourglass against the paper's sequences written out, the three activations, and its options."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from resattn.models.cost import multiply_accumulates, parameters
from resattn.models.residual_units import PreActivationBottleneck
from resattn.models.soft_mask import CeilMaxPool, Hourglass, SoftMask, activate, upsample


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 8, 29, 18, generator=torch.Generator().manual_seed(0))


def hourglass(depth: int, **options: Any) -> Hourglass:
    torch.manual_seed(depth)
    return Hourglass(8, unit=PreActivationBottleneck, depth=depth, **options).eval()


def pool(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2, 0, ceil_mode=True)


def up(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def test_three_poolings_are_the_paper_s_first_mask(x: Tensor) -> None:
    """pool, u1, pool, u2, pool, u, u, up, + u(u2), u, up, + u(u1), u, up."""
    a = hourglass(3)
    b = a.inner
    c = b.inner
    assert c.inner is None
    u1 = a.encode(pool(x))
    u2 = b.encode(pool(u1))
    y = up(c.decode(c.encode(pool(u2))), like=u2)
    y = up(b.decode(y + b.skip(u2)), like=u1)
    y = up(a.decode(y + a.skip(u1)), like=x)
    torch.testing.assert_close(a(x), y)


def test_one_pooling_has_two_units_and_no_skip(x: Tensor) -> None:
    c = hourglass(1)
    assert sum(isinstance(module, PreActivationBottleneck) for module in c.modules()) == 2
    torch.testing.assert_close(c(x), up(c.decode(c.encode(pool(x))), like=x))


def test_skips_can_be_left_out(x: Tensor) -> None:
    b = hourglass(2, skip="none")
    u1 = b.encode(pool(x))
    y = up(b.inner.decode(b.inner.encode(pool(u1))), like=u1)
    torch.testing.assert_close(b(x), up(b.decode(y), like=x))


def test_local_convolutions_are_as_many_and_see_a_neighbourhood_only(x: Tensor) -> None:
    whole, local = hourglass(3), hourglass(3, structure="local")
    assert parameters(local) == parameters(whole)
    assert multiply_accumulates(local, (29, 18)) > multiply_accumulates(whole, (29, 18))
    assert local(x).shape == x.shape
    assert not any(isinstance(module, CeilMaxPool) for module in local.modules())
    x = torch.randn(1, 8, 64, 64, requires_grad=True)
    local(x)[0, :, 32, 32].sum().backward()
    assert not x.grad[..., :20, :].any()
    x.grad = None
    whole(x)[0, :, 32, 32].sum().backward()
    assert x.grad[..., :20, :].any()


def test_more_units_between_poolings() -> None:
    count = [
        sum(isinstance(module, PreActivationBottleneck) for module in hourglass(3, units=units).modules())
        for units in (1, 2, 3)
    ]
    assert count == [8, 14, 20]


@pytest.mark.parametrize("options", [{"depth": 0}, {"depth": 1, "units": 0}])
def test_an_hourglass_without_poolings_or_units_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one pooling and one unit"):
        hourglass(**options)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 3), (5, 16), (33, 47)])
def test_any_size_works(size: tuple[int, int], mode: Any) -> None:
    out = hourglass(3, upsampling=mode)(torch.randn(1, 8, *size))
    assert out.shape == (1, 8, *size)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 7), (56, 56), (57, 28)])
def test_pooling_is_torch_s_wherever_torch_s_is_defined(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.equal(CeilMaxPool()(x), nn.MaxPool2d(3, 2, 0, ceil_mode=True)(x))


def test_pooling_keeps_what_cannot_be_pooled() -> None:
    x = torch.randn(2, 3, 1, 1)
    assert torch.equal(CeilMaxPool()(x), x)
    assert CeilMaxPool()(torch.randn(2, 3, 1, 5)).shape == (2, 3, 1, 2)


def test_up_sampling_aligns_corners_and_keeps_the_precision() -> None:
    x = torch.tensor([[[[0.0, 3.0]]]])
    assert upsample(x, (1, 4), "bilinear").flatten().tolist() == [0, 1, 2, 3]
    assert upsample(x, (1, 4), "nearest").flatten().tolist() == [0, 0, 3, 3]
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample(x.bfloat16(), (2, 4), "bilinear").dtype == torch.bfloat16


def test_activations(x: Tensor) -> None:
    torch.testing.assert_close(activate(x, "mixed"), 1 / (1 + torch.exp(-x)))
    channel = activate(x, "channel")
    torch.testing.assert_close(channel, x / x.square().sum(1, keepdim=True).sqrt())
    assert channel.abs().max() <= 1
    mean, std = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True, unbiased=False)
    torch.testing.assert_close(activate(x, "spatial"), torch.sigmoid((x - mean) / std), rtol=1e-4, atol=1e-4)
    for activation, value in {"mixed": 0.5, "channel": 0.0, "spatial": 0.5}.items():
        assert activate(torch.zeros(1, 8, 1, 1), activation).unique().tolist() == [value]


@pytest.mark.parametrize("activation", ["mixed", "channel", "spatial"])
def test_the_mask_is_the_activation_of_its_logits(activation: Any, x: Tensor) -> None:
    mask = SoftMask(hourglass(2), 8, activation=activation).eval()
    assert torch.equal(mask(x), activate(mask.logits(x), activation))
    assert mask(x).shape == x.shape


def test_the_head_normalises_first_unless_its_units_did() -> None:
    kinds = [type(layer).__name__ for layer in SoftMask(hourglass(1), 8).head]
    assert kinds == ["BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    as_is = SoftMask(hourglass(1), 8, read="as_is")
    assert [type(layer).__name__ for layer in as_is.head] == kinds[2:]


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'mixed', 'channel', 'spatial'.*not 'softmax'"):
        SoftMask(hourglass(1), 8, activation="softmax")  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="autocast takes norms in float32 on GPUs only")
@pytest.mark.parametrize("activation", ["mixed", "channel", "spatial"])
def test_a_mask_has_the_number_format_of_its_logits(activation: Any) -> None:
    logits = torch.rand(2, 4, 3, 3, dtype=torch.bfloat16, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert activate(logits, activation).dtype == torch.bfloat16

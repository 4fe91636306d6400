"""The product of patches is the convolution, and is taken only where it was measured to be faster."""

import pytest
import torch
from torch.nn import functional

from resattn.models import small_map_convolution
from resattn.models.small_map_convolution import PatchProduct, SmallMapConvolution


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "kernel"), [((2, 2), 3), ((5, 3), 3), ((4, 7), 1), ((6, 6), 5)])
def test_values_and_gradients_are_the_convolutions(size: tuple[int, int], kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4, kernel, kernel, dtype=torch.float64, requires_grad=True)
    padding = kernel // 2
    expected = functional.conv2d(x, weight, None, stride, padding)
    out = PatchProduct.apply(x, weight, stride, padding)
    torch.testing.assert_close(out, expected)
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(out, (x, weight), gradient),
        torch.autograd.grad(expected, (x, weight), gradient),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def _takes_the_product(layer: SmallMapConvolution, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> bool:
    taken: list[bool] = []

    class Watched(PatchProduct):
        @staticmethod
        def forward(ctx: object, *arguments: object) -> torch.Tensor:
            taken.append(True)
            return PatchProduct.forward(ctx, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(small_map_convolution, "PatchProduct", Watched)
    expected = functional.conv2d(x, layer.weight, None, layer.stride, layer.padding)
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-3)
    return bool(taken)


def test_only_training_on_small_maps_in_float32_goes_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SmallMapConvolution(192, 192, 3, 1, 1, bias=False)
    small, large = torch.randn(2, 192, 2, 2), torch.randn(2, 192, 8, 8)
    assert _takes_the_product(layer, small, monkeypatch)
    assert not _takes_the_product(layer, large, monkeypatch)
    assert not _takes_the_product(layer.double(), small.double(), monkeypatch)
    assert not _takes_the_product(layer.float().eval(), small, monkeypatch)

"""(1 + M) * T, M * T and T, on modules small enough to work out by hand."""

import pytest
import torch
from torch import Tensor, nn

from resattn.models.attention_module import AttentionLearning, AttentionModule


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def module(mask: nn.Module | None, learning: AttentionLearning = "residual") -> AttentionModule:
    return AttentionModule(pre=Times(2), trunk=Times(3), mask=mask, post=Times(10), learning=learning)


@pytest.mark.parametrize(
    ("mask", "learning", "expected"),
    [
        (Times(5), "residual", 10 * (1 + 10) * 6),
        (Times(5), "naive", 10 * 10 * 6),
        (Times(0), "residual", 10 * 6),
        (Times(0), "naive", 0),
        (None, "residual", 10 * 6),
        (None, "naive", 10 * 6),
    ],
)
def test_the_formula(mask: nn.Module | None, learning: AttentionLearning, expected: float) -> None:
    x = torch.ones(1, 2, 3, 3)
    output, given_mask = module(mask, learning).forward_with_mask(x)
    assert output.unique().tolist() == [expected]
    assert torch.equal(module(mask, learning)(x), output)
    if mask is None:
        assert given_mask is None
    else:
        assert torch.equal(given_mask, mask(2 * x))


def test_one_map_weights_all_channels() -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([0.0, 1.0]).view(1, 1, 2, 1).expand(len(x), 1, 2, 2)

    output, mask = module(Rows()).forward_with_mask(torch.ones(2, 4, 2, 2))
    assert mask.shape == (2, 1, 2, 2)
    assert output[:, :, 0].unique().tolist() == [60]
    assert output[:, :, 1].unique().tolist() == [120]


def test_an_unknown_way_of_learning_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'residual', 'naive'.*not 'none'"):
        module(None, "none")  # type: ignore[arg-type]

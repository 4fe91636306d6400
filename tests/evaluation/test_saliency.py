"""Readings of masks, worked out by hand where that can be done, and against autograd where it cannot."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import resattn
from resattn.errors import ResattnError
from resattn.evaluation.saliency import (
    READINGS,
    Look,
    combined_saliency,
    enlarge,
    look,
    normalize,
    running_with_gradients,
    smooth,
    stage_saliency,
)
from resattn.hardware import reference_execution
from resattn.models.network import Output

EXECUTION = reference_execution("cpu")


class Spotlight(nn.Module):
    """Two masks of two positions a side; the logits of two classes are weighted sums of the first, times a gain."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))

    def forward_with_masks(self, images: Tensor) -> Output:
        mask = torch.sigmoid(images[:, :1, :2, :2])
        answer = self.gain * (mask[:, 0] * self.weight).sum(dim=(1, 2))
        gate = mask.mean(dim=(2, 3), keepdim=True)
        logits = torch.stack([answer + gate[:, 0, 0, 0] * 0, torch.zeros_like(answer)], dim=1)
        return Output(logits, {"stage1.0": mask, "stage2.0": gate})


def made(masks: dict[str, Tensor], gradients: dict[str, Tensor]) -> Look:
    zeros = torch.zeros(1, 2)
    return Look(logits=zeros, log_probs=zeros, all_masks=masks, masks=masks, gradients=gradients)


def test_gradients_are_of_the_log_odds_of_the_likeliest_class_or_of_a_given_one() -> None:
    network = Spotlight()
    images = torch.zeros(1, 3, 4, 4)
    with running_with_gradients(network, EXECUTION):
        seen = look(network, images)
        other = look(network, images, torch.tensor([1]))
    assert seen.predicted.tolist() == [0]  # the answer is (1 - 2 + 3) / 2 > 0
    # Of two classes the log-odds are the difference of their logits.
    assert seen.gradients["stage1.0"][0, 0].tolist() == [[1.0, -2.0], [0.0, 3.0]]
    assert other.gradients["stage1.0"][0, 0].tolist() == [[-1.0, 2.0], [0.0, -3.0]]
    assert list(seen.masks) == ["stage1.0"], "a mask of one position tells no place"
    assert network.weight.grad is None
    assert not seen.masks["stage1.0"].requires_grad
    assert torch.exp(seen.log_probs).sum() == pytest.approx(1)


def test_gradients_do_not_vanish_where_the_network_is_certain() -> None:
    network = Spotlight(gain=500.0)
    with running_with_gradients(network, EXECUTION):
        seen = look(network, torch.zeros(1, 3, 4, 4))
    assert float(seen.log_probs.exp().max()) == 1.0
    assert seen.gradients["stage1.0"].abs().max() == pytest.approx(1500)


def test_frozen_weights_and_a_single_class() -> None:
    network = Spotlight().requires_grad_(False)
    with running_with_gradients(network, EXECUTION):
        assert look(network, torch.zeros(1, 3, 4, 4)).gradients["stage1.0"].abs().sum() == 6
    one = resattn.create_model("resattn_mini", num_classes=1)
    with running_with_gradients(one, EXECUTION):
        seen = look(one, torch.rand(2, 3, 32, 32))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in seen.gradients.values())


def test_mode_and_gradient_setting_are_put_back() -> None:
    network = Spotlight().train()
    with running_with_gradients(network, EXECUTION):
        assert torch.is_grad_enabled()
        assert not network.training
    assert network.training
    with pytest.raises(ResattnError, match="not finite"), running_with_gradients(network, EXECUTION):
        look(network, torch.full((1, 3, 4, 4), torch.nan))


def test_readings_by_hand() -> None:
    # Two channels on one row of two positions.
    mask = torch.tensor([[[[0.2, 0.6]], [[0.4, 0.8]]]])
    gradient = torch.tensor([[[[1.0, -1.0]], [[-3.0, 1.0]]]])
    expected = {
        "mask": [0.3, 0.7],
        "inverted mask": [-0.3, -0.7],
        # Mean gradients 0 and -1: all that is left is negative.
        "class-weighted mask": [0.0, 0.0],
        # 0.2 - 1.2 and -0.6 + 0.8.
        "mask x gradient": [0.0, 0.2],
        # 1.2 - 4.2 and -1.6 + 1.8.
        "contribution": [0.0, 0.2],
        "sensitivity": [4.0, 2.0],
    }
    assert list(READINGS) == list(expected)
    for name, reading in READINGS.items():
        assert reading(mask, gradient)[0, 0].tolist() == pytest.approx(expected[name]), name


def test_a_stage_is_the_mean_of_its_modules_from_0_to_1() -> None:
    rows = {"stage1.0": [0.0, 0.2], "stage1.1": [0.4, 0.0], "stage2.0": [0.5, 0.5]}
    masks = {key: torch.tensor(row).view(1, 1, 1, 2) for key, row in rows.items()}
    stages = stage_saliency(made(masks, masks), READINGS["mask"], (1, 2))
    assert {stage: values[0, 0].tolist() for stage, values in stages.items()} == {
        "stage 1": [1.0, 0.0],  # of means 0.2 and 0.1
        "stage 2": [0.0, 0.0],  # the same everywhere says nothing
    }


def test_enlarging_keeps_the_outer_edges_together() -> None:
    large = enlarge(torch.tensor([[[0.0, 1.0]]]), (3, 8))
    # Centres of the two pixels lie at 2 and 6 of 8; beyond them the map goes on level.
    assert large.shape == (1, 3, 8)
    assert large[0, 0].tolist() == pytest.approx([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])
    assert torch.equal(enlarge(large.flip(2), (3, 8)), large.flip(2))


def test_normalizing() -> None:
    maps = torch.stack([torch.tensor([[-1.0, 1.0], [0.0, 3.0]]), torch.full((2, 2), 5.0)])
    assert normalize(maps).tolist() == [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    rounded = torch.full((1, 2, 2), 1 / 3)
    rounded[0, 0, 0] += 1e-7
    assert normalize(rounded).sum() == 0
    assert normalize(torch.tensor([[[0.0, 1e-20]]])).tolist() == [[[0.0, 1.0]]]


def test_smoothing_keeps_what_is_level_and_spreads_a_point_as_a_gaussian() -> None:
    assert torch.allclose(smooth(torch.full((2, 3, 5), 0.7), 2.0), torch.full((2, 3, 5), 0.7))
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1.0
    spread = smooth(point, 2.0)[0]
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    assert float(spread[15, 17] / spread[15, 15]) == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert torch.allclose(spread, spread.T)


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (64, 41)])
def test_combined_saliency_of_a_real_network(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = resattn.create_model("resattn_mini", num_classes=7)
    images = torch.rand(3, 3, *size)
    with running_with_gradients(network, EXECUTION):
        seen = look(network, images)
        mirrored = look(network, images.flip(3), seen.predicted)
        combined = combined_saliency(seen, mirrored, size)
        again = combined_saliency(mirrored, look(network, images, seen.predicted), size)
        alone = look(network, images[1:2])
    assert combined.shape == (3, *size)
    assert combined.amin(dim=(1, 2)).tolist() == [0, 0, 0]
    assert combined.amax(dim=(1, 2)).tolist() == [1, 1, 1]
    # Of the mirror images it is the mirror image; images of a batch do not touch each other.
    assert torch.allclose(again.flip(2), combined, atol=1e-5)
    for key, gradient in alone.gradients.items():
        assert torch.allclose(gradient[0], seen.gradients[key][1], atol=1e-6)


def test_combined_saliency_looks_where_every_stage_does() -> None:
    # One stage looks left, the other left and right: what is left is left, whichever number of modules there are.
    left, both = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    left[..., 8, 3] = both[..., 8, 3] = both[..., 8, 12] = 1.0
    here = made({"stage1.0": left, "stage2.0": both}, {"stage1.0": left, "stage2.0": both})
    there = made(here.masks, {key: value.flip(3) for key, value in here.gradients.items()})
    combined = combined_saliency(here, there, (16, 16))[0]
    assert divmod(int(combined.argmax()), 16) == (8, 3)
    assert float(combined[8, 12]) < 0.01
    with pytest.raises(ValueError, match="no masks"):
        combined_saliency(made({}, {}), made({}, {}), (16, 16))

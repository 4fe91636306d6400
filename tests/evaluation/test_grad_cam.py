"""Captum's Grad-CAM is the paper's, and what is told where it is not installed."""

import sys

import pytest
import torch

import resattn
from resattn.errors import ResattnError
from resattn.evaluation.grad_cam import grad_cam, is_available
from resattn.evaluation.saliency import enlarge, normalize, running_with_gradients
from resattn.hardware import reference_execution

EXECUTION = reference_execution("cpu")


@pytest.mark.parametrize("model", ["resattn_mini", "resattn_mini_plain", "seed_inception_attention_v4"])
def test_it_is_the_formula_of_the_paper(model: str) -> None:
    torch.manual_seed(0)
    network = resattn.create_model(model, num_classes=5).train()
    images, classes = torch.rand(2, 3, 40, 33), torch.tensor([1, 4])
    with running_with_gradients(network, EXECUTION):
        maps = grad_cam(network, images, classes)
        features = network.forward_features(images)
        logits = network.forward_head(features)
        (gradient,) = torch.autograd.grad(logits[0, 1] + logits[1, 4], features)
    expected = (features * gradient.mean((2, 3), keepdim=True)).sum(1).relu()
    assert maps.shape == (2, 40, 33)
    assert torch.allclose(maps, normalize(enlarge(expected.detach(), (40, 33))), atol=1e-5)
    assert network.training
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules()), "no hook stays behind"


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_available()
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    network = resattn.create_model("resattn_mini", num_classes=2)
    with pytest.raises(ResattnError) as told, running_with_gradients(network, EXECUTION):
        grad_cam(network, torch.rand(1, 3, 32, 32), torch.tensor([0]))
    assert told.value.mend == "pip install 'resattn[explain]'"

"""Grad-CAM is what Captum, which others use for it, computes."""

import pytest
import torch
from captum.attr import LayerGradCam

import resattn
from resattn.evaluation.grad_cam import grad_cam
from resattn.evaluation.saliency import enlarge, normalize, running_with_gradients
from resattn.hardware import reference_execution


@pytest.mark.parametrize("model", ["resattn_mini", "resattn_mini_plain", "seed_inception_attention_v4"])
def test_it_is_what_captum_computes(model: str) -> None:
    torch.manual_seed(0)
    network = resattn.create_model(model, num_classes=5).train().requires_grad_(False)
    images, classes = torch.rand(2, 3, 40, 33), torch.tensor([1, 4])
    with running_with_gradients(network, reference_execution("cpu")):
        maps = grad_cam(network, images, classes)
        # A stage is a list of modules and never called itself: its output is that of the last of them.
        reference = LayerGradCam(network, network.stages[-1][-1])
        expected = reference.attribute(
            images.clone().requires_grad_(), target=classes, relu_attributions=True
        )
    assert maps.shape == (2, 40, 33)
    assert maps.amax((1, 2)).tolist() == [1, 1]
    assert torch.allclose(maps, normalize(enlarge(expected[:, 0].detach(), (40, 33))), atol=1e-5)
    assert network.training
    assert not images.requires_grad

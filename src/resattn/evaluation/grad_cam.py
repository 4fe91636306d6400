"""Grad-CAM, the usual explanation of a convolutional network: what the masks' own is measured against.

Source: Selvaraju et al. 2017 (arXiv 1610.02391), section 3, as Captum computes it.
"""

from importlib.util import find_spec
from typing import cast

from torch import Tensor

from resattn.errors import ResattnError
from resattn.evaluation.saliency import enlarge, normalize
from resattn.models.network import ResidualAttentionNetwork


def is_available() -> bool:
    """Whether Captum is installed."""
    return find_spec("captum") is not None


def grad_cam(network: ResidualAttentionNetwork, images: Tensor, classes: Tensor) -> Tensor:
    """Where the last stage's features speak for a class of each image: N x H x W in [0, 1].

    images: N x 3 x H x W in [0, 1]. classes: N, whose logits are explained. The network has to be in
    `running_with_gradients`. A map on which nothing speaks for the class is zero. Raises ResattnError where Captum is
    not installed.
    """
    try:
        from captum.attr import LayerGradCam
    except ModuleNotFoundError as error:
        raise ResattnError(
            f"Grad-CAM needs Captum, and {error.name} is not installed", "pip install 'resattn[explain]'"
        ) from error
    # A stage is a list of modules and never called itself: its output is that of the last of them.
    layer = cast("list[list[object]]", network.stages)[-1][-1]
    size = (images.shape[-2], images.shape[-1])
    # Captum warns where the images do not want a gradient yet.
    wanting = images.detach().requires_grad_()
    maps = LayerGradCam(network, layer).attribute(wanting, target=classes, relu_attributions=True)
    return normalize(enlarge(maps[:, 0].detach().float(), size))

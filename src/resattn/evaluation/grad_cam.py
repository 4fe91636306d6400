"""Grad-CAM, the usual explanation of a convolutional network: what the masks' own is measured against.

Source: Selvaraju et al. 2017 (arXiv 1610.02391), section 3.
"""

import torch
from torch import Tensor

from resattn.evaluation.saliency import enlarge, normalize
from resattn.models.network import ResidualAttentionNetwork


def grad_cam(network: ResidualAttentionNetwork, images: Tensor, classes: Tensor) -> Tensor:
    """Where the last stage's features speak for a class of each image: N x H x W in [0, 1].

    images: N x 3 x H x W in [0, 1]. classes: N, whose logits are explained. The network has to be in
    `running_with_gradients`. A map on which nothing speaks for the class is zero.
    """
    # Images that want a gradient, so that features have one where all weights were frozen, too.
    features = network.forward_features(images.detach().requires_grad_())
    logits = network.forward_head(features)
    # Images do not mix: the gradient of the sum holds each one's own.
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), features)
    maps = (features * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1).relu()
    return normalize(enlarge(maps.detach().float(), (images.shape[-2], images.shape[-1])))

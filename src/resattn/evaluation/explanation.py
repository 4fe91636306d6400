"""Why a network says what it says of single images: probabilities, masks, where it looked, Grad-CAM."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from resattn.evaluation.grad_cam import grad_cam
from resattn.evaluation.inference import class_number, network_input, require_uint8_images
from resattn.evaluation.saliency import BOX_THRESHOLD, combined_saliency, look, running_with_gradients
from resattn.evaluation.saliency_boxes import saliency_boxes
from resattn.hardware import Execution, reference_execution
from resattn.models.network import ResidualAttentionNetwork

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a network made of one image of H x W pixels.

    probabilities: of all classes, fractions of 1. explained: the number of the class that the maps are of. masks: by
    "stage{i}.{j}", channels x h x w over the whole image. saliency: H x W in [0, 1], `combined_saliency`; None for a
    network without masks that tell places. box: 4, xyxy in pixels, edges, around what stands out of it; None with it.
    grad_cam: H x W in [0, 1].
    """

    probabilities: Floats
    explained: int
    masks: dict[str, Floats]
    saliency: Floats | None
    box: npt.NDArray[np.float64] | None
    grad_cam: Floats

    def likeliest(self, count: int) -> npt.NDArray[np.int64]:
        """The numbers of the `count` likeliest classes, best first; of all, where there are fewer."""
        return np.argsort(-self.probabilities, kind="stable")[:count]


def explain(
    network: ResidualAttentionNetwork,
    images: npt.NDArray[np.uint8],
    *,
    label: str | None = None,
    threshold: float = BOX_THRESHOLD,
    execution: Execution | None = None,
) -> Sequence[Explanation]:
    """Explain what `network` makes of each image, for the class it finds likeliest, or for another one.

    images: uint8 RGB, N x H x W x 3, one at least. label: the class to explain in every image, by id or readable name;
    what speaks for "cat" in an image taken for a dog. threshold: of the box, a fraction of the saliency's maximum.
    `execution` is float32 on the best device unless given; the network is moved there. Raises ResattnError for other
    images, where a logit is not finite, and for a class the network does not know.
    """
    require_uint8_images(images)
    number = None if label is None else class_number(network, label)
    execution = execution or reference_execution()
    size = (images.shape[1], images.shape[2])
    with running_with_gradients(network, execution):
        pixels = network_input(images, execution)
        classes = None if number is None else torch.full((len(images),), number, device=pixels.device)
        seen = look(network, pixels, classes)
        combined = boxes = None
        explained = seen.predicted if classes is None else classes
        if seen.masks:
            mirrored = look(network, pixels.flip(3), explained)
            combined = combined_saliency(seen, mirrored, size).cpu().numpy()
            boxes = saliency_boxes(combined, threshold)
        cams = grad_cam(network, pixels, explained).cpu().numpy()
    probabilities = seen.log_probs.exp().cpu().numpy()
    masks = {key: mask.cpu().numpy() for key, mask in seen.masks.items()}
    return [
        Explanation(
            probabilities=probabilities[row],
            explained=int(explained[row]),
            masks={key: mask[row] for key, mask in masks.items()},
            saliency=None if combined is None else combined[row],
            box=None if boxes is None else boxes[row],
            grad_cam=cams[row],
        )
        for row in range(len(images))
    ]

"""Where a network looked: its soft masks read as one map over the image.

A mask M weights the trunk's features T with (1 + M) and has as many channels as they have, so there are many ways
to read one map from it. `READINGS` holds those that are measured against the boxes of a data set
(`resattn.evaluation.localization`). The mask itself is the worst of them: its values are often low on the object.
What finds the object is the gradient: how much the network's answer depends on the mask, position by position. No
hooks are needed, because the masks that `forward_with_masks` returns are those that made the logits.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from resattn.evaluation.inference import log_probabilities, running
from resattn.hardware import Execution

Reading = Callable[[Tensor, Tensor], Tensor]

# Of the combined saliency of the shipped resattn_small (docs/results.md), tuned on 5,000 training boxes.
BOX_THRESHOLD = 0.1
# Standard deviation of the blur, as a share of the shorter side.
SMOOTHING = 1 / 16
# Of a map's largest value: smaller differences come from sums of many channels in float32.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Look:
    """What a network made of N images, and what an answer owes to its masks.

    logits, log_probs: N x classes. all_masks: by "stage{i}.{j}", N x C x h x w. masks: those that tell places, which
    one of a single position does not. gradients: of the log-odds of one class of each image with respect to each of
    these, the same keys and shapes.
    """

    logits: Tensor
    log_probs: Tensor
    all_masks: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]

    @property
    def predicted(self) -> Tensor:
        """The likeliest class of each image, N."""
        return self.log_probs.argmax(dim=1)


@contextmanager
def running_with_gradients(network: nn.Module, execution: Execution) -> Iterator[None]:
    """As `running`, but gradients can be taken."""
    with running(network, execution), torch.inference_mode(False), torch.enable_grad():
        yield


def look(network: nn.Module, images: Tensor, classes: Tensor | None = None) -> Look:
    """Run `network` forwards and backwards, within `running_with_gradients`; the parameters get no gradients.

    images: N x 3 x H x W in [0, 1]. classes: N, whose log-odds the gradients are of; the likeliest where left out.
    Raises ResattnError where a logit is not finite.
    """
    # Images that want a gradient, so that masks have one where all weights were frozen, too.
    logits, found = network.forward_with_masks(images.detach().requires_grad_())  # type: ignore[operator]
    log_probs = log_probabilities(logits)
    masks = {key: mask for key, mask in found.items() if mask.shape[-2:].numel() > 1}
    chosen = log_probs.argmax(dim=1) if classes is None else classes
    # Images do not mix: the gradient of the sum holds each one's own.
    answers = _log_odds(logits.float(), chosen).sum()
    gradients = torch.autograd.grad(answers, list(masks.values())) if masks else ()
    all_masks = {key: mask.detach().float() for key, mask in found.items()}
    return Look(
        logits=logits.detach(),
        log_probs=log_probs.detach(),
        all_masks=all_masks,
        masks={key: all_masks[key] for key in masks},
        gradients={key: gradient.float() for key, gradient in zip(masks, gradients, strict=True)},
    )


def _log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """How much likelier a class of each image is than all others together, in nats: N x classes to N.

    Its gradient has the direction of the log-probability's, and does not vanish where the network is certain.
    """
    own = logits.gather(1, classes[:, None])
    if logits.shape[1] == 1:
        return own[:, 0]
    return own[:, 0] - logits.scatter(1, classes[:, None], -torch.inf).logsumexp(dim=1)


def mean_mask(mask: Tensor, gradient: Tensor) -> Tensor:
    """The mask itself: its mean over channels."""
    del gradient
    return mask.mean(dim=1)


def inverted_mask(mask: Tensor, gradient: Tensor) -> Tensor:
    """Where the mask is low: minus its mean over channels."""
    return -mean_mask(mask, gradient)


def weighted_mask(mask: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by their mean gradient, and of the sum what is positive: Grad-CAM of the mask."""
    return (mask * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1).relu()


def mask_gradient(mask: Tensor, gradient: Tensor) -> Tensor:
    """What the mask adds to the answer, to first order: mask * gradient, summed over channels, what is positive."""
    return (mask * gradient).sum(dim=1).relu()


def contribution(mask: Tensor, gradient: Tensor) -> Tensor:
    """What the gated features add to the answer, to first order: (1 + M) * gradient, summed, what is positive.

    The gradient with respect to M is T times that with respect to (1 + M) T, so this is features times gradient.
    """
    return ((1 + mask) * gradient).sum(dim=1).relu()


def sensitivity(mask: Tensor, gradient: Tensor) -> Tensor:
    """How much the answer depends on the mask, whichever way: absolute gradients, summed over channels."""
    del mask
    return gradient.abs().sum(dim=1)


READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        "mask": mean_mask,
        "inverted mask": inverted_mask,
        "class-weighted mask": weighted_mask,
        "mask x gradient": mask_gradient,
        "contribution": contribution,
        "sensitivity": sensitivity,
    }
)


def stage_saliency(seen: Look, reading: Reading, size: tuple[int, int]) -> dict[str, Tensor]:
    """One map a stage, "stage 1" -> N x H x W in [0, 1]: `reading` of its masks, enlarged, mean over its modules.

    size: height and width of the maps in pixels.
    """
    stages: dict[str, list[Tensor]] = {}
    for key, mask in seen.masks.items():
        stage = key.split(".")[0].replace("stage", "stage ")
        stages.setdefault(stage, []).append(enlarge(reading(mask, seen.gradients[key]), size))
    return {stage: normalize(torch.stack(modules).mean(dim=0)) for stage, modules in stages.items()}


def combined_saliency(seen: Look, mirrored: Look, size: tuple[int, int]) -> Tensor:
    """Where all stages agree that the answer was decided: N x H x W in [0, 1].

    The square of the geometric mean of the stages' sensitivities (the product of two, in a network with two), each
    summed with that of the mirror image and smoothed: the best reading found on training boxes of Tiny ImageNet. It is
    small wherever one stage looks away. `mirrored` is the look at the images' mirror images, for the same classes.
    Raises ValueError without masks.
    """
    if not seen.masks:
        raise ValueError("there are no masks to combine")
    here, there = (stage_saliency(one, sensitivity, size) for one in (seen, mirrored))
    blurred = [smooth(here[stage] + there[stage].flip(2), SMOOTHING * min(size)) for stage in here]
    stages = torch.stack([normalize(stage) for stage in blurred])
    return normalize(stages.prod(dim=0) ** (2 / len(stages)))


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """N x h x w to N x H x W, bilinear; pixels are areas, so that the outer edges of both fall together."""
    return functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def normalize(maps: Tensor) -> Tensor:
    """Stretch each map, N x H x W, to [0, 1]; a map of one value, up to rounding, says nothing and becomes zero."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    spread = high - low
    says = spread > ROUNDING * torch.maximum(low.abs(), high.abs())
    return torch.where(says, (maps - low) / spread.where(says, torch.ones_like(spread)), 0.0)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Blur each map, N x H x W, by a Gaussian of `sigma` pixels, cut at three sigma; the edge goes on outside."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    padded = functional.pad(maps[:, None], (reach, reach, reach, reach), mode="replicate")
    across = functional.conv2d(padded, weights.view(1, 1, 1, -1))
    return functional.conv2d(across, weights.view(1, 1, -1, 1))[:, 0]

"""An exported file held against the network it came from: run on the same images, and refused where it errs."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from resattn.errors import ResattnError
from resattn.evaluation.inference import network_input, progress_bar, row_batches, running
from resattn.hardware import reference_execution
from resattn.models.network import ResidualAttentionNetwork
from resattn.serving.check_images import CheckImages, Pixels, at_size
from resattn.serving.exported_model import ExportedModel, Floats

# Of a logit or a mask's value; of the largest logit where that is above 1.
TOLERANCE = 1e-4
_BATCH = 64


@dataclass(frozen=True)
class Comparison:
    """What the network and the file gave for the same images.

    compared_on: which images, in words; images: how many. largest_difference: of any logit or any value of a mask.
    largest_output: of the network's logits and masks, without the sign. agreement: share of the images for which both
    found the same class the likeliest. top1_network, top1_file: accuracies as fractions of 1, None without labels.
    """

    compared_on: str
    images: int
    largest_difference: float
    largest_output: float
    agreement: float
    top1_network: float | None
    top1_file: float | None


def compare(
    network: ResidualAttentionNetwork, exported: ExportedModel, images: CheckImages, *, progress: bool = True
) -> Comparison:
    """Run both on all images, in float32 on the CPU; the first image alone, so that no batch size is taken for granted.

    The network is moved to the CPU. Images of another size than the file takes are resized to it.
    """
    execution = reference_execution("cpu")
    rows = np.arange(len(images.pixels))
    difference = largest = 0.0
    chosen: list[tuple[Floats, Floats]] = []
    shown = progress_bar(progress, len(rows), f"comparing on {images.name}")
    with running(network, execution), shown as advance:
        for batch in (rows[:1], *row_batches(rows[1:], _BATCH)):
            pixels = at_size(images.pixels[batch], exported.input_size[1:])
            expected = _of_network(network, network_input(pixels, execution), bool(exported.mask_names))
            found = _of_file(exported, pixels)
            difference = max(difference, *map(_largest_difference, expected, found))
            largest = max(largest, *(float(np.abs(output).max()) for output in expected))
            chosen.append((expected[0].argmax(1), found[0].argmax(1)))
            advance(len(batch))
    ours, theirs = (np.concatenate(classes) for classes in zip(*chosen, strict=True))
    return Comparison(
        compared_on=images.name,
        images=len(rows),
        largest_difference=difference,
        largest_output=largest,
        agreement=float((ours == theirs).mean()),
        top1_network=None if images.labels is None else float((ours == images.labels).mean()),
        top1_file=None if images.labels is None else float((theirs == images.labels).mean()),
    )


def require_equal(comparison: Comparison) -> None:
    """Raise ResattnError where a float32 file gives other outputs than its network, beyond rounding."""
    allowed = TOLERANCE * max(1.0, comparison.largest_output)
    if not comparison.largest_difference <= allowed:  # which NaN is not either
        raise ResattnError(
            f"the exported file is wrong: an output differs from the network's by {comparison.largest_difference:.2g},"
            f" and {allowed:.2g} is rounding ({comparison.images:,} images of {comparison.compared_on})",
            "report this with the versions of torch, onnxscript and onnxruntime; no file was written",
        )


def require_accuracy(comparison: Comparison, *, allowed_loss: float) -> None:
    """Raise ResattnError where an int8 file loses more than `allowed_loss` points of top-1 (1 point: 0.01)."""
    network, file = comparison.top1_network, comparison.top1_file
    if network is None or file is None:
        raise ResattnError(
            f"{comparison.compared_on} has no labels of the network's classes: what int8 costs cannot be measured",
            "name the data set that the network was trained on with --data",
        )
    # Rounded, because the difference of two fractions may else lie just above what is allowed, and mean just that.
    lost = round(100 * (network - file), 6)
    if not (lost <= allowed_loss and np.isfinite(comparison.largest_difference)):
        answers = round((network - file) * comparison.images)
        raise ResattnError(
            f"int8 loses {lost:.2f} points of top-1 ({network:.2%} to {file:.2%}, {answers} of {comparison.images:,}"
            f" images of {comparison.compared_on}), and {allowed_loss:g} are allowed; no file was written",
            f"export as onnx, or allow it with --allow-loss {np.ceil(lost * 10) / 10:g}",
        )


def _of_network(network: ResidualAttentionNetwork, images: Tensor, masks: bool) -> list[Floats]:
    if not masks:
        return [network(images).numpy()]
    logits, found = network.forward_with_masks(images)
    return [logits.numpy(), *(mask.numpy() for mask in found.values())]


def _of_file(exported: ExportedModel, pixels: Pixels) -> list[Floats]:
    if not exported.mask_names:
        return [exported(pixels)]
    logits, masks = exported.with_masks(pixels)
    return [logits, *masks.values()]


def _largest_difference(expected: Floats, found: Floats) -> float:
    """Infinite where the shapes differ or a value is not a number."""
    if expected.shape != found.shape:
        return float("inf")
    difference = float(np.abs(expected - found).max())
    return difference if np.isfinite(difference) else float("inf")

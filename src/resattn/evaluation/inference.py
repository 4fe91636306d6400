"""Running a trained network over uint8 images, the same way for evaluation, submission and prediction."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from resattn import progress
from resattn.data.batches import to_float
from resattn.data.packed import PackedSplit
from resattn.errors import NotFinite, ResattnError
from resattn.hardware import Execution, keep_freed_memory
from resattn.models.modes import evaluating

Flip = Literal["none", "average"]


def configuration(network: nn.Module) -> Mapping[str, Any]:
    """The network's timm configuration (`pretrained_cfg`), empty for a module that carries none."""
    carried = getattr(network, "pretrained_cfg", None)
    return carried if isinstance(carried, Mapping) else {}


def model_name(network: nn.Module) -> str:
    """The registered name of the network, or its class name where it was not made by name."""
    name = getattr(network, "variant", "") or configuration(network).get("architecture")
    return str(name or type(network).__name__)


def class_names(network: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids of a network's classes and their readable names, one of each a logit; numbers where it carries none.

    Raises ResattnError where it has other outputs than names.
    """
    known = configuration(network)
    outputs = getattr(network, "num_classes", None)
    labels = known.get("label_names") or range(outputs or 0)
    if outputs is not None and len(labels) != outputs:
        raise ResattnError(
            f"{model_name(network)} has {outputs} outputs and the names of {len(labels)} classes",
            "write those of its own into pretrained_cfg, as label_names and label_descriptions",
        )
    readable = known.get("label_descriptions") or {}
    return tuple(map(str, labels)), tuple(str(readable.get(label, label)) for label in map(str, labels))


def class_number(network: nn.Module, name: str) -> int:
    """Which output of the network is a class, named by its id, its readable name or one of that name's words for it.

    Upper and lower case are one, and so are the ways to write an accent. Raises ResattnError where there is no such
    class, or more than one.
    """
    labels, descriptions = class_names(network)
    if name in labels:
        return labels.index(name)
    names = [(_folded(a), _folded(b)) for a, b in zip(labels, descriptions, strict=True)]
    wanted = _folded(name.strip())
    for ways in (
        [{label} for label, _ in names],
        [{text} for _, text in names],
        # "goldfish, Carassius auratus": words for one thing, as WordNet lists them.
        [{word.strip() for word in text.split(",")} for _, text in names],
    ):
        found = [number for number, words in enumerate(ways) if wanted in words]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(labels[number] for number in found)
            raise ResattnError(f"{name!r} is the name of several classes: {ids}", "give one of their ids")
    words = {word.strip() for pair in names for text in pair for word in text.split(",")}
    near = get_close_matches(wanted, words, n=3)
    guess = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"it knows {', '.join(labels[:5])} ..."
    )
    raise ResattnError(f"{model_name(network)} knows no class {name!r}", guess)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def require_same_classes(network: nn.Module, split: PackedSplit) -> None:
    """Raise ResattnError unless output k of `network` means class id k of `split`.

    A network that carries no class ids is held to the number of classes only.
    """
    names = configuration(network).get("label_names")
    known = tuple(names) if names else None
    count = len(known) if known else getattr(network, "num_classes", len(split.class_ids))
    if known == split.class_ids or (known is None and count == len(split.class_ids)):
        return
    what = f"{model_name(network)} knows {count} classes, and {split.data} has {len(split.class_ids)}"
    if known and count == len(split.class_ids):
        pairs = zip(known, split.class_ids, strict=True)
        own, other = next(pair for pair in pairs if pair[0] != pair[1])
        what = f"{model_name(network)} and {split.data} have different classes: {own} here is {other} there"
    own_data = configuration(network).get("data") or "the data set it was trained on"
    raise ResattnError(what, f"evaluate it on {own_data}, or train a network on {split.data}")


def require_uint8_images(images: object) -> None:
    """Raise ResattnError for what is no array of uint8 RGB images, N x H x W x 3, or has none."""
    dtype = getattr(images, "dtype", None)
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        what = (
            f"a {dtype} array of shape {tuple(shape)}" if dtype is not None else f"a {type(images).__name__}"
        )
        raise ResattnError(
            f"the images are {what}, not uint8 RGB, N x H x W x 3",
            "give pixels of 0 to 255; of one image pixels[None]; of a file Predictor(network).pixels(file)[None]",
        )


def network_input(images: npt.NDArray[np.uint8], execution: Execution) -> Tensor:
    """uint8 images N x H x W x 3 as floats in [0, 1], N x 3 x H x W, on the device and in its layout."""
    # A copy, because rows of a read-only memory map cannot become a tensor.
    batch = to_float(np.array(images))
    return batch.to(device=execution.device).contiguous(memory_format=execution.memory_format)


@contextmanager
def running(network: nn.Module, execution: Execution) -> Iterator[None]:
    """Run `network` without gradients: on the device (it stays there), in evaluation mode (undone)."""
    # The stub of `to` knows no device together with a memory format; the method does.
    network.to(device=execution.device, memory_format=execution.memory_format)  # type: ignore[call-overload]
    keep_freed_memory()
    with evaluating(network), torch.inference_mode(), execution.autocast():
        yield


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax of N x classes logits in float32; raises NotFinite where a logit is not finite."""
    if not bool(torch.isfinite(logits).all()):
        raise NotFinite(
            "the network's output is not finite: its weights are broken or overflow in this precision",
            "evaluate in fp32, or go back to an earlier checkpoint",
        )
    return torch.log_softmax(logits.float(), dim=1)


def average_with_mirrored(network: nn.Module, images: Tensor, single: Tensor) -> Tensor:
    """Log of the mean probability of an image and its mirror image, given the log-probabilities of the first.

    images: N x 3 x H x W in [0, 1]; single: N x classes.
    """
    mirrored = log_probabilities(network(images.flip(3)))
    return torch.logaddexp(single, mirrored) - float(np.log(2.0))


def row_batches(rows: npt.NDArray[np.int64], batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Cut row numbers into batches of `batch_size`; the last may be shorter."""
    if batch_size < 1:
        raise ResattnError(f"batch size is {batch_size}", "give 1 or more")
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def labelled_rows(split: PackedSplit, limit: int | None) -> npt.NDArray[np.int64]:
    """The rows of `split` that have a label, at most `limit`, evenly spaced; ResattnError where there are none."""
    rows = np.flatnonzero(split.labels >= 0)
    if len(rows) == 0:
        raise ResattnError(
            f"the {split.split} split of {split.data} has no labels, so there is nothing to compare with",
            "evaluate on --split val, or write predictions with --submission FILE",
        )
    return evenly_spaced(rows, limit)


def evenly_spaced(rows: npt.NDArray[np.int64], limit: int | None) -> npt.NDArray[np.int64]:
    """At most `limit` of the rows, evenly spaced: the first of a split may all be of one class."""
    if limit is None or limit >= len(rows):
        return rows
    if limit < 1:
        raise ResattnError(f"limit is {limit} images", "give 1 or more, or leave it out")
    return rows[np.arange(limit) * len(rows) // limit]


def progress_bar(
    shown: bool, total: int, description: str, *, unit: str = "images"
) -> AbstractContextManager[Callable[[int], None]]:
    """The progress bar of `resattn.progress`, or one that shows nothing."""
    if not shown:
        return nullcontext(lambda _: None)
    return progress.bar(total=total, description=description, unit=unit)

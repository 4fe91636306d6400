"""Images of any kind in, readable predictions out."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor, nn

from resattn.data.decoding import (
    MAX_PIXELS,
    BadImageError,
    decode_rgb,
    fit_square,
    in_order,
    read_file,
    to_array,
    to_rgb,
    turn_upright,
)
from resattn.errors import ResattnError
from resattn.evaluation.inference import configuration, log_probabilities, network_input, running
from resattn.hardware import Execution, reference_execution

Pixels = npt.NDArray[np.uint8]
ImageSource = str | Path | Image.Image | Pixels
MaskDetail = Literal["none", "mean", "all"]


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, best first.

    source: the image's file, None where it came from memory. labels: class ids. descriptions: their readable
    names. probabilities: fractions of 1, over all classes. masks: by "stage{i}.{j}", float32, h x w for
    "mean" and channels x h x w for "all", over the square the network saw; None where they were not asked
    for.
    """

    source: str | None
    labels: tuple[str, ...]
    descriptions: tuple[str, ...]
    probabilities: tuple[float, ...]
    masks: dict[str, npt.NDArray[np.float32]] | None = field(default=None, compare=False)

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """(label, description, probability) of each class, best first."""
        return zip(self.labels, self.descriptions, self.probabilities, strict=True)

    def to_json(self) -> dict[str, Any]:
        """The prediction as one JSON object; masks, where there are any, as nested lists."""
        fields: dict[str, Any] = {
            "source": self.source,
            "labels": list(self.labels),
            "descriptions": list(self.descriptions),
            "probabilities": list(self.probabilities),
        }
        if self.masks is not None:
            fields["masks"] = {key: mask.tolist() for key, mask in self.masks.items()}
        return fields


class Predictor:
    """Names what is in images, with any network of this package.

    The network's configuration says the class ids, their readable names and the side of the square it sees;
    `size` in pixels overrides the last. `execution` is float32 on the best device unless given; the network
    is moved there. Raises ResattnError where neither the network nor `size` says an input size.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        execution: Execution | None = None,
        size: int | None = None,
        batch_size: int = 64,
    ) -> None:
        known = configuration(network)
        if size is None and "input_size" not in known:
            raise ResattnError("the network does not say what image size it takes", "pass size= in pixels")
        self.network = network
        self.execution = execution or reference_execution()
        self.size = size or int(known["input_size"][-1])
        self.batch_size = batch_size
        self._labels = tuple(str(label) for label in known.get("label_names") or ())
        self._descriptions = dict(known.get("label_descriptions") or {})

    def predict(
        self,
        images: ImageSource | Sequence[ImageSource],
        top: int = 5,
        *,
        masks: MaskDetail = "none",
    ) -> list[Prediction]:
        """Predict one image or several: a file, a folder of files, a PIL image, uint8 RGB H x W x 3.

        Takes the `top` likeliest classes (all, where there are fewer). `masks` adds the mean over channels of
        each attention mask, or all of its channels. Raises ResattnError, naming the file, for what is no
        readable image.
        """
        single = isinstance(images, str | Path | Image.Image | np.ndarray)
        sources: Sequence[Any] = [images] if single else images  # type: ignore[assignment]
        return list(self.stream(_unfolded(sources), top=top, masks=masks))

    def stream(
        self,
        images: Iterable[ImageSource],
        *,
        top: int = 5,
        masks: MaskDetail = "none",
        on_error: Callable[[ResattnError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Predict image after image, in order, with a few batches in memory however many there are.

        Arguments as in `predict`, folders excepted (see `iter_image_files`). An image that cannot be read
        raises ResattnError after the predictions of those before it; with `on_error` that is called instead,
        and the image left out.
        """
        if top < 1:
            raise ResattnError(f"top is {top}", "ask for 1 class or more")
        return self._stream(images, top, masks, on_error)

    def pixels(self, image: ImageSource) -> Pixels:
        """What the network sees of an image: upright, short side scaled to `size`, centre square, uint8 RGB.

        Returns `size` x `size` x 3. Raises ResattnError, naming the file, for what is no readable image.
        """
        name = image if isinstance(image, str | Path) else "the image"
        try:
            return to_array(fit_square(_open(image, self.size), self.size))
        except BadImageError as error:
            raise ResattnError(f"{name} {error}", "give an image file that Pillow reads, whole") from error
        except MemoryError as error:
            raise ResattnError(f"{name} does not fit into memory", "give a smaller image") from error

    def _stream(
        self,
        images: Iterable[ImageSource],
        top: int,
        masks: MaskDetail,
        on_error: Callable[[ResattnError], None] | None,
    ) -> Iterator[Prediction]:
        held: list[tuple[str | None, Pixels]] = []
        for name, pixels in in_order(self._prepare, images):
            if not isinstance(pixels, ResattnError):
                held.append((name, pixels))
            elif on_error is not None:
                on_error(pixels)
            else:
                yield from self._predict_batch(held, top, masks)
                raise pixels
            if len(held) == self.batch_size:
                yield from self._predict_batch(held, top, masks)
                held = []
        yield from self._predict_batch(held, top, masks)

    def _prepare(self, image: ImageSource) -> tuple[str | None, Pixels | ResattnError]:
        """Name and pixels, or the failure: one raised in a pool would take its neighbours with it."""
        try:
            return _file_name(image), self.pixels(image)
        except ResattnError as error:
            return None, error

    def _predict_batch(
        self, batch: Sequence[tuple[str | None, Pixels]], top: int, masks: MaskDetail
    ) -> list[Prediction]:
        if not batch:
            return []
        images = network_input(np.stack([pixels for _, pixels in batch]), self.execution)
        with running(self.network, self.execution):
            if masks == "none":
                logits, found = self.network(images), None
            else:
                logits, stages = self.network.forward_with_masks(images)  # type: ignore[operator]
                found = {key: _detail(mask, masks) for key, mask in stages.items()}
            probabilities = log_probabilities(logits).exp()
            shares, classes = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
        return [
            self._prediction(
                source, classes[row], shares[row], found and {k: m[row] for k, m in found.items()}
            )
            for row, (source, _) in enumerate(batch)
        ]

    def _prediction(
        self,
        source: str | None,
        classes: Tensor,
        shares: Tensor,
        masks: dict[str, npt.NDArray[np.float32]] | None,
    ) -> Prediction:
        labels = tuple(self._labels[k] if self._labels else str(k) for k in classes.tolist())
        descriptions = tuple(str(self._descriptions.get(label, label)) for label in labels)
        return Prediction(source, labels, descriptions, tuple(shares.tolist()), masks)


def iter_image_files(paths: str | Path | Iterable[str | Path]) -> Iterator[Path]:
    """The image files in folders and below, sorted within each; files named themselves come as they are.

    In folders, files with a suffix of a format Pillow reads are taken; hidden ones are not. Symbolic links to
    folders are not followed. Raises ResattnError at once for a path that does not exist, and for a folder
    without images when it is reached.
    """
    chosen = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    for path in chosen:
        if not path.exists():
            raise ResattnError(f"{path} does not exist", "name image files, or folders of them")
    return (file for path in chosen for file in (_files_below(path) if path.is_dir() else (path,)))


def _files_below(folder: Path) -> Iterator[Path]:
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = False
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                found = True
                yield Path(here, name)
    if not found:
        raise ResattnError(f"{folder} holds no image files", "name a folder with images that Pillow reads")


def _unfolded(sources: Iterable[ImageSource]) -> Iterator[ImageSource]:
    for source in sources:
        if isinstance(source, str | Path):
            yield from iter_image_files(source)
        else:
            yield source


def _file_name(image: ImageSource) -> str | None:
    if isinstance(image, str | Path):
        return str(image)
    return getattr(image, "filename", None) or None


def _open(image: ImageSource, size: int) -> Image.Image:
    if isinstance(image, str | Path):
        return decode_rgb(read_file(Path(image)), reduce_to=size)
    if isinstance(image, Image.Image):
        return _from_memory(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadImageError(f"is a {image.dtype} array of shape {image.shape}, not uint8 RGB, H x W x 3")
    return Image.fromarray(np.ascontiguousarray(image))


def _from_memory(image: Image.Image) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise BadImageError(f"has {image.width} x {image.height} pixels, over the limit of {MAX_PIXELS:,}")
    try:
        image.load()
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ...
        raise BadImageError(f"is damaged or cut short ({error})") from error
    upright = image.copy()
    turn_upright(upright)
    return to_rgb(upright)


def _detail(mask: Tensor, detail: MaskDetail) -> npt.NDArray[np.float32]:
    chosen = mask.float().mean(dim=1) if detail == "mean" else mask.float()
    return chosen.cpu().numpy()

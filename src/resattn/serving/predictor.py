"""Images of any kind in, readable predictions out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import IOBase
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from resattn.data.decoding import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    BadImageError,
    decode_rgb,
    fit_square,
    in_order,
    read_file,
    to_array,
    to_rgb,
    too_many_pixels,
    turn_upright,
)
from resattn.data.image_streams import EncodedImage, encoded_bytes, iter_image_files
from resattn.errors import ResattnError
from resattn.evaluation.inference import (
    class_names,
    configuration,
    log_probabilities,
    model_name,
    network_input,
    running,
)
from resattn.hardware import Execution, reference_execution
from resattn.models.loading import load
from resattn.serving.exported_model import ExportedModel
from resattn.serving.prediction import Prediction, Unreadable

Pixels = npt.NDArray[np.uint8]
ImageSource = str | Path | EncodedImage | Image.Image | Pixels
MaskDetail = Literal["none", "mean", "all"]


class Predictor:
    """Names what is in images, with any network of this package or a file of `resattn export`.

    The network's configuration says the class ids, their readable names and the side of the square it sees;
    `size` in pixels overrides the last. `execution` is float32 on the best device unless given; the network
    is moved there. A file runs by itself, on the CPU, at its own size. Raises ResattnError where neither the network
    nor `size` says an input size, for a network without a classifier, and for one of other images than square RGB.
    """

    @classmethod
    def open(cls, source: str | Path) -> "Predictor":
        """Of what `resattn.load` takes, or a file of `resattn export`; raises ResattnError as these do."""
        return cls(ExportedModel.open(source) if Path(source).suffix == ".onnx" else load(source))

    def __init__(
        self,
        network: nn.Module | ExportedModel,
        *,
        execution: Execution | None = None,
        size: int | None = None,
        batch_size: int = 64,
    ) -> None:
        self._labels: tuple[str, ...]
        self._descriptions: tuple[str, ...]
        sides: Sequence[int] | None
        device = "auto"
        if isinstance(network, ExportedModel):
            device, sides = "cpu", network.input_size
            self._labels, self._descriptions = network.labels, network.descriptions
        else:
            sides = configuration(network).get("input_size")
            self._labels, self._descriptions = class_names(network)
            if getattr(network, "num_classes", None) == 0:
                raise ResattnError(f"{model_name(network)} has no classifier", "make it with num_classes")
        if sides and (int(sides[0]) != 3 or sides[-2] != sides[-1]):
            takes = " x ".join(map(str, sides))
            raise ResattnError(
                f"the network takes images of {takes}", "predict with one of square RGB images"
            )
        if size is None and not sides:
            raise ResattnError("the network does not say what image size it takes", "pass size= in pixels")
        for given, value in (("size", 1 if size is None else size), ("batch_size", batch_size)):
            if value < 1:
                raise ResattnError(f"{given} is {value}", "give 1 or more, or leave it out")
        self.network = network
        self.execution = execution or reference_execution(device)
        self.size = size or int(sides[-1] if sides else 0)
        self.batch_size = batch_size

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
        single = isinstance(images, str | bytes | Path | EncodedImage | Image.Image | np.ndarray | IOBase)
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
        outcomes = self.outcomes(images, top=top, masks=masks)
        return self._predictions(outcomes, on_error)

    def outcomes(
        self, images: Iterable[ImageSource], *, top: int = 5, masks: MaskDetail = "none"
    ) -> Iterator[Prediction | Unreadable]:
        """What came of image after image, in order, with a few batches in memory; arguments as in `stream`."""
        if top < 1:
            raise ResattnError(f"top is {top}", "ask for 1 class or more")
        return self._outcomes(images, top, masks)

    def pixels(self, image: ImageSource) -> Pixels:
        """What the network sees of an image: upright, short side scaled to `size`, centre square, uint8 RGB.

        Returns `size` x `size` x 3. Raises ResattnError, naming the file, for what is no readable image.
        """
        name = _file_name(image) if isinstance(image, str | Path | EncodedImage) else "the image"
        try:
            return to_array(fit_square(_open(image, self.size), self.size))
        except BadImageError as error:
            raise ResattnError(f"{name} {error}", error.mend) from error
        except MemoryError as error:
            raise ResattnError(f"{name} does not fit into memory", "give a smaller image") from error

    def _predictions(
        self,
        outcomes: Iterator[Prediction | Unreadable],
        on_error: Callable[[ResattnError], None] | None,
    ) -> Iterator[Prediction]:
        for outcome in outcomes:
            if isinstance(outcome, Prediction):
                yield outcome
            elif on_error is not None:
                on_error(outcome.error)
            else:
                raise outcome.error

    def _outcomes(
        self, images: Iterable[ImageSource], top: int, masks: MaskDetail
    ) -> Iterator[Prediction | Unreadable]:
        prepared = in_order(self._prepare, images, size=encoded_bytes)
        failure = None
        while failure is None:
            held: list[tuple[str | None, Pixels | ResattnError]] = []
            try:
                held.extend(islice(prepared, self.batch_size))
            except ResattnError as error:  # of a folder or an archive, which the images before it outlive
                failure = error
            if not held:
                break
            yield from self._batch_outcomes(held, top, masks)
        if failure is not None:
            raise failure

    def _batch_outcomes(
        self, held: Sequence[tuple[str | None, Pixels | ResattnError]], top: int, masks: MaskDetail
    ) -> Iterator[Prediction | Unreadable]:
        readable = [(name, pixels) for name, pixels in held if not isinstance(pixels, ResattnError)]
        predictions = iter(self._predict_batch(readable, top, masks))
        for name, pixels in held:
            yield Unreadable(name, pixels) if isinstance(pixels, ResattnError) else next(predictions)

    def _prepare(self, image: ImageSource) -> tuple[str | None, Pixels | ResattnError]:
        """Name and pixels, or the failure: one raised in a pool would take its neighbours with it."""
        name = _file_name(image)
        try:
            return name, self.pixels(image)
        except ResattnError as error:
            return name, error

    def _predict_batch(
        self, batch: Sequence[tuple[str | None, Pixels]], top: int, masks: MaskDetail
    ) -> list[Prediction]:
        if not batch:
            return []
        logits, stages = self._run(np.stack([pixels for _, pixels in batch]), masks=masks != "none")
        found = None if masks == "none" else {key: _detail(mask, masks) for key, mask in stages.items()}
        probabilities = log_probabilities(logits).exp()
        shares, classes = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
        return [
            self._prediction(
                source, classes[row], shares[row], found and {k: m[row] for k, m in found.items()}
            )
            for row, (source, _) in enumerate(batch)
        ]

    def _run(self, pixels: Pixels, *, masks: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Logits, and the masks where they are asked for."""
        if isinstance(self.network, ExportedModel):
            outputs = self.network.with_masks(pixels) if masks else (self.network(pixels), {})
            return torch.from_numpy(outputs[0]), {k: torch.from_numpy(mask) for k, mask in outputs[1].items()}
        images = network_input(pixels, self.execution)
        with running(self.network, self.execution):
            if masks:
                logits, found = self.network.forward_with_masks(images)  # type: ignore[operator]
                return logits, found
            return self.network(images), {}

    def _prediction(
        self,
        source: str | None,
        classes: Tensor,
        shares: Tensor,
        masks: dict[str, npt.NDArray[np.float32]] | None,
    ) -> Prediction:
        numbers = classes.tolist()
        labels = tuple(self._labels[k] if self._labels else str(k) for k in numbers)
        descriptions = tuple(self._descriptions[k] if self._labels else str(k) for k in numbers)
        return Prediction(source, labels, descriptions, tuple(shares.tolist()), masks)


def _unfolded(sources: Iterable[ImageSource]) -> Iterator[ImageSource]:
    for source in sources:
        if isinstance(source, str | Path):
            yield from iter_image_files(source)
        else:
            yield source


def _file_name(image: ImageSource) -> str | None:
    if isinstance(image, str | Path):
        return str(image)
    if isinstance(image, EncodedImage):
        return image.name
    return getattr(image, "filename", None) or None


def _open(image: ImageSource, size: int) -> Image.Image:
    if isinstance(image, str | Path):
        return decode_rgb(read_file(Path(image)), reduce_to=size)
    if isinstance(image, EncodedImage):
        if image.content is None:
            raise BadImageError(f"holds no image, or one of more than {MAX_FILE_BYTES:,} bytes")
        return decode_rgb(image.content, reduce_to=size)
    if isinstance(image, Image.Image):
        return _from_memory(image)
    if not isinstance(image, np.ndarray):
        raise BadImageError(
            f"is of type {type(image).__name__}", "give a path, a PIL image or an array of pixels"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadImageError(
            f"is a {image.dtype} array of shape {image.shape}, not uint8 RGB, H x W x 3",
            "give pixels of 0 to 255; several images as a list",
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _from_memory(image: Image.Image) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise too_many_pixels(image.width, image.height)
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

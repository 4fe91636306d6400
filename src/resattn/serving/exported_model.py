"""An exported network run without torch: uint8 images in, logits out, through ONNX Runtime or OpenVINO.

Nothing here needs torch, though importing the package does (README has a few lines that run a file without it). What
the file says about itself is one JSON object, the entry `resattn` of its metadata: `model`, `data`, `format`, `resattn`
(the version that wrote it), `label_names` (logit k belongs to label_names[k]), `label_descriptions` (id -> readable
name), `input_size` ([channels, height, width]), `input` (name, layout, type, range and order of the channels),
`normalization` (mean and std, applied inside) and `masks` (names of the outputs behind `logits`).
"""

import importlib
import json
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from resattn.errors import ResattnError

Runtime = Literal["onnxruntime", "openvino"]
Floats = npt.NDArray[np.float32]
# Runs N x channels x H x W in [0, 1] and returns the outputs that are named.
Run = Callable[[Floats, Sequence[str]], list[Floats]]

METADATA_KEY = "resattn"
INPUT = "images"
LOGITS = "logits"
# More at once cost memory, and no image becomes faster by it.
BATCH = 32
_EXTRAS = {"openvino": "openvino"}  # what no other extra brings
_AGAIN = "export it again with `resattn export`"


def require_package(name: str) -> ModuleType:
    """Import an optional package; ResattnError, naming the extra that brings it, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(name, "export")
        raise ResattnError(
            f"this needs {name}, and {error.name} is not installed", f"pip install 'resattn[{extra}]'"
        ) from error


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A network that `resattn export` wrote, ready to run from any number of threads.

    labels: class ids, one a logit. descriptions: their readable names, in the same order. input_size: channels, height
    and width in pixels. mask_names: the masks the file can give, as in `forward_with_masks`; often none. format: what
    the file was exported as. model, data: the names of the network and of what it was trained on.
    """

    path: Path
    model: str
    data: str
    format: str
    labels: tuple[str, ...]
    descriptions: tuple[str, ...]
    input_size: tuple[int, int, int]
    mask_names: tuple[str, ...]
    runtime: Runtime
    _run: Run

    @classmethod
    def open(
        cls, path: Path | str, *, runtime: Runtime = "onnxruntime", threads: int | None = None
    ) -> "ExportedModel":
        """Read a file of `resattn export`.

        `threads` is how many work on one call; the runtime's own choice where left out. Raises ResattnError, naming the
        file, for anything but a file of `resattn export`, and where the runtime is not installed.
        """
        path = Path(path)
        if not path.is_file():
            raise ResattnError(f"{path} does not exist", "name a file that `resattn export` wrote")
        if threads is not None and threads < 1:
            raise ResattnError(f"threads is {threads}", "give 1 or more, or leave it out")
        package = require_package(runtime)
        begin = _begin_openvino if runtime == "openvino" else _begin_onnxruntime
        try:
            text, run = begin(package, path, threads)
        except Exception as error:  # the runtimes raise kinds of their own, without a common ancestor
            reason = str(error).strip().splitlines()[-1]
            raise ResattnError(f"{path} is no ONNX file, or is damaged: {reason}", _AGAIN) from error
        try:
            known = json.loads(text)
            return cls(
                path=path,
                **{name: str(known[name]) for name in ("model", "data", "format")},
                labels=tuple(map(str, known["label_names"])),
                descriptions=tuple(str(known["label_descriptions"][name]) for name in known["label_names"]),
                input_size=_three(known["input_size"]),
                mask_names=tuple(map(str, known["masks"])),
                runtime=runtime,
                _run=run,
            )
        except (ValueError, LookupError, TypeError) as error:
            raise ResattnError(f"{path} does not say what it takes and gives: {error!r}", _AGAIN) from error

    def __call__(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Logits, N x classes, of uint8 images N x H x W x channels at `input_size`; RGB where there are three.

        Raises ResattnError for images of another type or size.
        """
        return self._outputs(images, (LOGITS,))[0]

    def with_masks(self, images: npt.NDArray[np.uint8]) -> tuple[Floats, dict[str, Floats]]:
        """Logits and every mask, N x C x H' x W' or N x 1 x H' x W', by its name.

        Raises ResattnError as a call does, and for a file that was exported without masks.
        """
        if not self.mask_names:
            raise ResattnError(f"{self.path} has no masks", "export it with --masks")
        logits, *masks = self._outputs(images, (LOGITS, *self.mask_names))
        return logits, dict(zip(self.mask_names, masks, strict=True))

    def _outputs(self, images: npt.NDArray[np.uint8], names: Sequence[str]) -> list[Floats]:
        channels, height, width = self.input_size
        wanted = (height, width, channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted or not len(images):
            raise ResattnError(
                f"{self.model} takes one or more images of uint8, N x {height} x {width} x {channels},"
                f" not {images.dtype} {' x '.join(map(str, images.shape))}",
                "scale the short side to the size and cut out the centre, as `Predictor.pixels` does",
            )
        parts = [
            self._run(as_input(images[start : start + BATCH]), names)
            for start in range(0, len(images), BATCH)
        ]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def as_input(images: npt.NDArray[np.uint8]) -> Floats:
    """uint8 N x H x W x C as the file's input: float32 in [0, 1], N x C x H x W."""
    return np.divide(images.transpose(0, 3, 1, 2), np.float32(255), dtype=np.float32, order="C")


def _begin_onnxruntime(package: Any, path: Path, threads: int | None) -> tuple[str, Run]:
    """The file's metadata, and how to run it with ONNX Runtime."""
    options = package.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of every operator that it computes its own way
    # Threads that wait sleep: spinning saves a twentieth of a millisecond a call, and takes a busy neighbour's core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    session = package.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Floats, names: Sequence[str]) -> list[Floats]:
        return list(session.run(list(names), {INPUT: images}))

    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, ""), run


def _begin_openvino(package: Any, path: Path, threads: int | None) -> tuple[str, Run]:
    """The file's metadata, and how to run it with OpenVINO."""
    model = package.Core().read_model(path)
    place = ["framework", METADATA_KEY]
    text = model.get_rt_info(place).astype(str) if model.has_rt_info(place) else ""
    # Left alone it computes in bfloat16 where the CPU can, and logits are off by hundredths.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = package.Core().compile_model(model, "CPU", settings)
    # A request serves one thread at a time: each call takes one that is free, or makes one.
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(images: Floats, names: Sequence[str]) -> list[Floats]:
        try:
            request = free.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        request.infer({INPUT: images})
        outputs = [request.get_tensor(name).data.copy() for name in names]
        free.put(request)
        return outputs

    return text, run


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    channels, height, width = map(int, sizes)
    return channels, height, width

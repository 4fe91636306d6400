"""An ONNX graph in 8-bit integers: ranges measured on training images, weights of each channel on a scale of its own.

ONNX Runtime's static quantisation in the form of QuantizeLinear and DequantizeLinear pairs, which OpenVINO and others
read as well. Features become unsigned, weights signed integers of 7 bits: CPUs without VNNI add pairs of products in
16 bits, which overflow silently with 8, and the file may be used on another machine than it was checked on.
"""

import copy
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.evaluation.inference import evenly_spaced
from resattn.files import unfinished
from resattn.serving.check_images import at_size
from resattn.serving.exported_model import INPUT, Floats, as_input, require_package

if TYPE_CHECKING:
    import onnx

CALIBRATION_IMAGES = 512
_BATCH = 32


def quantize(
    graph: "onnx.ModelProto", calibration: PackedSplit, *, size: tuple[int, int]
) -> "onnx.ModelProto":
    """The graph in 8-bit integers, with the ranges that its features have on images of `calibration`.

    Takes 512 images, evenly spaced over the split, at `size` (height, width). Raises ResattnError for the validation
    and test split, on which the result is to be measured.
    """
    if calibration.split in ("val", "test"):
        raise ResattnError(
            f"{calibration.split} is what the int8 network is measured on, and cannot calibrate it",
            "calibrate on the train split",
        )
    rows = evenly_spaced(np.arange(len(calibration.images)), CALIBRATION_IMAGES)
    tool = require_package("onnxruntime.quantization")
    # `unfinished`, because a signal ends the process without coming by here.
    with tempfile.TemporaryDirectory(prefix="resattn-int8-") as folder, unfinished(Path(folder)), _quiet():
        path = Path(folder) / "int8.onnx"
        tool.quantize_static(
            copy.deepcopy(graph),  # it moves the weights of what it is given into files
            path,
            _batches_for(tool, calibration, rows, size),
            quant_format=tool.QuantFormat.QDQ,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return cast("onnx.ModelProto", require_package("onnx").load(path))


def _batches_for(tool: Any, split: PackedSplit, rows: npt.NDArray[np.int64], size: tuple[int, int]) -> Any:
    """The images as ONNX Runtime asks for them: one batch a call, None at the end."""

    class Reader(tool.CalibrationDataReader):  # type: ignore[misc]
        """ONNX Runtime accepts no other kind of object."""

        def __init__(self) -> None:
            self.batches: Iterator[Floats] = (
                as_input(at_size(split.images[rows[start : start + _BATCH]], size))
                for start in range(0, len(rows), _BATCH)
            )

        def get_next(self) -> dict[str, Floats] | None:
            """The next batch by the name of the input."""
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep quantisation's advice, which it gives to the root logger, from the user's terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)

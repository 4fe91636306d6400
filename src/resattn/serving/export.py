"""Trained networks taken out of torch: ONNX files, each run and compared with its network before it is kept."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.files import whole_file
from resattn.models.loading import EXPORTED
from resattn.models.network import ResidualAttentionNetwork
from resattn.serving.check_images import noise, real_images
from resattn.serving.export_check import Comparison, compare, require_accuracy, require_equal
from resattn.serving.exported_model import ExportedModel, require_package
from resattn.serving.onnx_graph import describe, input_size, onnx_graph
from resattn.serving.quantization import quantize

Format = Literal["onnx", "onnx-int8"]
# How many images a float32 file is compared on; an int8 file on all there are.
COMPARED_IMAGES = 1000


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote, and how it compares with the network (see `Comparison`)."""

    path: Path
    format: Format
    bytes: int
    masks: tuple[str, ...]
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """The report as one flat JSON object."""
        return {
            "path": str(self.path),
            "format": self.format,
            "bytes": self.bytes,
            "masks": list(self.masks),
            **asdict(self.comparison),
        }


def export(
    network: ResidualAttentionNetwork,
    path: Path | str,
    *,
    format: Format = "onnx",
    masks: bool = False,
    check: PackedSplit | None = None,
    calibration: PackedSplit | None = None,
    allowed_loss: float = 1.0,
    progress: bool = True,
) -> ExportReport:
    """Write the network to one ONNX file that needs neither torch nor this package, and compare the file with it.

    The file takes float32 images, N x 3 x height x width, RGB in [0, 1], for any N at the network's input size, and
    normalises inside; it gives `logits`, N x classes, and with `masks` every mask under its name. Class ids, readable
    names and this contract are in its metadata. `ExportedModel.open` reads it.

    "onnx" is float32: on 1,000 images of `check` (noise, without one) no output may differ by more than 1e-4, or 1e-4
    of the largest output. "onnx-int8" is quantised with the ranges on 512 images of `calibration`, training images, and
    may lose up to `allowed_loss` points of top-1 on all of `check`. Raises ResattnError for more than that, and then
    leaves no file; where packages are missing, for int8 without both splits, and for a `path` that is a folder or does
    not end in .onnx, by which such files are known.
    """
    path = Path(path)
    if path.is_dir():
        raise ResattnError(f"{path} is a folder", "name the file that is to be written")
    if path.suffix != EXPORTED:
        raise ResattnError(f"{path} does not end in {EXPORTED}", f"call it {path.with_suffix(EXPORTED)}")
    _require_what_it_takes(network, format, check=check, calibration=calibration)
    network = copy.deepcopy(network).cpu().float().eval()
    graph = onnx_graph(network, masks=masks)
    size = input_size(network)
    if format == "onnx-int8" and calibration is not None:
        graph = quantize(graph, calibration, size=size[1:])
    describe(graph, network, format=format)
    limit = COMPARED_IMAGES if format == "onnx" else None
    images = noise(size) if check is None else real_images(network, check, limit=limit)
    with whole_file(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        exported = ExportedModel.open(temporary)
        comparison = compare(network, exported, images, progress=progress)
        if format == "onnx":
            require_equal(comparison)
        else:
            require_accuracy(comparison, allowed_loss=allowed_loss)
    return ExportReport(path, format, path.stat().st_size, exported.mask_names, comparison)


def _require_what_it_takes(
    network: ResidualAttentionNetwork,
    format: Format,
    *,
    check: PackedSplit | None,
    calibration: PackedSplit | None,
) -> None:
    """Raise ResattnError for missing packages, a network without classes, and int8 without images."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require_package(package)
    if network.num_classes == 0:
        raise ResattnError(
            "the network has no classifier", "give it classes: create_model(..., num_classes=N)"
        )
    if format == "onnx-int8" and (check is None or calibration is None):
        raise ResattnError(
            "int8 needs images to measure ranges and accuracy on",
            "prepare the data set that the network was trained on, or name another with --data",
        )

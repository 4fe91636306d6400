"""What the server needs of a network, whether torch runs it or the runtime of an exported file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resattn.errors import ResattnError
from resattn.evaluation.inference import class_names, configuration, model_name, network_input
from resattn.evaluation.saliency import combined_saliency, look, running_with_gradients
from resattn.hardware import Execution, keep_freed_memory, reference_execution
from resattn.models.loading import load
from resattn.models.network import ResidualAttentionNetwork
from resattn.serving.exported_model import ExportedModel

# Beside the masks: where the answer depends on them. It takes gradients, which an exported file has none of.
COMBINED = "combined"
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Runtime(Protocol):
    """A network ready to run; `NetworkRuntime` and `ExportedModel` are two.

    model, data: the names of the network and of what it was trained on. labels: class ids, one a logit. descriptions:
    their readable names. input_size: channels, height and width in pixels. mask_names: the masks it can give, and last
    `COMBINED` where it can say where the answer depends on them.
    """

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> str: ...  # noqa: D102
    @property
    def labels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def descriptions(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def input_size(self) -> tuple[int, int, int]: ...  # noqa: D102
    @property
    def mask_names(self) -> tuple[str, ...]: ...  # noqa: D102

    def __call__(self, images: Pixels, /) -> Floats:
        """Logits, N x classes, of uint8 images, N x H x W x 3 at `input_size`."""

    def with_masks(self, images: Pixels, /) -> tuple[Floats, Mapping[str, Floats]]:
        """Logits and every mask of `mask_names`, N x C x H' x W' or N x 1 x H' x W'."""


class NetworkRuntime:
    """A network run by torch, in float32 on the best device, from one thread at a time.

    The network is moved to the device and put into evaluation mode. Raises ResattnError for a network without a
    classifier or without an input size.
    """

    def __init__(self, network: ResidualAttentionNetwork, *, execution: Execution | None = None) -> None:
        known = configuration(network)
        if network.num_classes == 0 or "input_size" not in known:
            lacking = "classifier" if network.num_classes == 0 else "input size"
            raise ResattnError(f"the network has no {lacking}", "serve a trained run, or an exported file")
        self.model = model_name(network)
        self.data = str(known.get("data") or "")
        self.labels, self.descriptions = class_names(network)
        channels, height, width = map(int, known["input_size"])
        self.input_size = channels, height, width
        self._execution = execution or reference_execution()
        # The stub of `to` knows no device together with a memory format; the method does.
        self._network = network.to(  # type: ignore[call-overload]
            device=self._execution.device, memory_format=self._execution.memory_format
        ).eval()
        keep_freed_memory()
        blank = np.zeros((1, height, width, channels), np.uint8)
        self.mask_names = tuple(self.with_masks(blank)[1])

    def __call__(self, images: Pixels) -> Floats:
        """Logits, N x classes, of uint8 images, N x H x W x 3 at `input_size`."""
        with torch.inference_mode(), self._execution.autocast():
            return _on_cpu(self._network(network_input(images, self._execution)))

    def with_masks(self, images: Pixels) -> tuple[Floats, dict[str, Floats]]:
        """Logits, every mask, N x C x H' x W' or N x 1 x H' x W', and the combined saliency, N x 1 x H x W."""
        given = network_input(images, self._execution)
        with running_with_gradients(self._network, self._execution):
            seen = look(self._network, given)
            maps = {name: _on_cpu(mask) for name, mask in seen.all_masks.items()}
            if seen.masks:
                mirrored = look(self._network, given.flip(3), seen.predicted)
                maps[COMBINED] = _on_cpu(combined_saliency(seen, mirrored, self.input_size[1:])[:, None])
        return _on_cpu(seen.logits), maps


def open_runtime(source: str | Path) -> Runtime:
    """What `resattn serve` serves: a file of `resattn export`, or what `resattn.load` takes.

    Raises ResattnError where there is nothing to load, and for a network that does not take square RGB images.
    """
    runtime: Runtime
    runtime = ExportedModel.open(source) if Path(source).suffix == ".onnx" else NetworkRuntime(load(source))
    channels, height, width = runtime.input_size
    if channels != 3 or height != width:
        raise ResattnError(
            f"{source} takes images of {channels} x {height} x {width}",
            "serve a network of square RGB images",
        )
    return runtime


def _on_cpu(values: Tensor) -> Floats:
    floats: Floats = values.float().cpu().numpy()
    return floats

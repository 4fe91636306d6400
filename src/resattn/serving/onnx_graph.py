"""A network as an ONNX graph that says itself what it takes, what it gives, and what its classes are called."""

import json
import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from resattn.errors import ResattnError
from resattn.evaluation.inference import class_names, configuration, model_name
from resattn.models.network import ResidualAttentionNetwork
from resattn.serving.exported_model import INPUT, LOGITS, METADATA_KEY
from resattn.version import __version__

if TYPE_CHECKING:
    import onnx

# Old enough for runtimes of the last years; all operators of these networks are in it.
OPSET = 18


class _Outputs(nn.Module):
    """The network as a function of tensors to a row of tensors, which is all that a graph can be."""

    def __init__(self, network: ResidualAttentionNetwork, masks: bool) -> None:
        super().__init__()
        self.network = network
        self.masks = masks

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits, and behind them the masks in the order of the network."""
        if not self.masks:
            return (self.network(images),)
        logits, masks = self.network.forward_with_masks(images)
        return (logits, *masks.values())


def onnx_graph(network: ResidualAttentionNetwork, *, masks: bool) -> "onnx.ModelProto":
    """The network, which is on the CPU and in evaluation mode, as a graph of float32.

    The input `images` is N x channels x height x width in [0, 1] for any N, at the network's input size; it is
    normalised inside. Outputs are `logits`, N x classes, and with `masks` every mask under its name. Each batch
    normalisation behind a convolution is folded into it. Raises ResattnError for a network that torch cannot export.
    """
    size = input_size(network)
    example = torch.rand(2, *size)  # a batch of one would be taken for a constant
    names = [name for name, module in network.attention_modules.items() if masks and module.mask is not None]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # deprecations inside torch and onnxscript, which no user can mend
            program = torch.onnx.export(
                _Outputs(network, masks).eval(),
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[LOGITS, *names],
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ResattnError(
            f"torch cannot export {model_name(network)}: {str(error).strip().splitlines()[0]}",
            "export another network, and report this one with its recipe",
        ) from error
    graph = cast("onnx.ModelProto", program.model_proto)  # type: ignore[union-attr]
    _strip(graph)
    return graph


def describe(graph: "onnx.ModelProto", network: ResidualAttentionNetwork, *, format: str) -> None:
    """Write into the graph what it is; `resattn.serving.exported_model` says which fields there are."""
    known = configuration(network)
    labels, descriptions = class_names(network)
    channels, height, width = input_size(network)
    contract = (
        f"float32, N x {channels} x {height} x {width}, {_colours(channels)} in [0, 1]; normalised inside; scale the"
        f" short side of an image to {min(height, width)} pixels and cut out the centre"
    )
    document: dict[str, Any] = {
        "model": model_name(network),
        "data": str(known.get("data") or ""),
        "format": format,
        "resattn": __version__,
        "label_names": labels,
        "label_descriptions": dict(zip(labels, descriptions, strict=True)),
        "input_size": [channels, height, width],
        "input": {
            "name": INPUT,
            "layout": "N x channels x height x width",
            "type": "float32",
            "range": [0, 1],
            "channels": _colours(channels),
        },
        "normalization": {
            "where": "inside",
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
        },
        "masks": [output.name for output in graph.graph.output if output.name != LOGITS],
    }
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(document, sort_keys=True)
    graph.producer_name, graph.producer_version = "resattn", __version__
    graph.doc_string = f"{document['model']}, trained on {document['data'] or 'nothing known'}"
    graph.graph.input[0].doc_string = contract
    graph.graph.output[0].doc_string = "logit k is of the class label_names[k]; softmax gives probabilities"


def input_size(network: ResidualAttentionNetwork) -> tuple[int, int, int]:
    """Channels, height and width of the images a network was made for; ResattnError where it does not say."""
    known = configuration(network).get("input_size")
    if known is None:
        raise ResattnError(
            "the network does not say what image size it takes", "set input_size in its pretrained_cfg"
        )
    _, height, width = map(int, cast(tuple[int, int, int], known))
    return network.mean.numel(), height, width


def _strip(graph: "onnx.ModelProto") -> None:
    """Take out torch's notes on where each node came from: they name folders of the machine that exported it."""
    inner = graph.graph
    for part in (inner, *inner.node, *inner.input, *inner.output, *inner.value_info, *inner.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _colours(channels: int) -> str:
    return "RGB" if channels == 3 else f"{channels} channels"

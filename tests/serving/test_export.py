"""Exported files give what the network gives, say what they are, and are not kept where they err."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_images import SIDE, images

from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.models import create_model
from resattn.models.network import ResidualAttentionNetwork
from resattn.serving import export as exporting
from resattn.serving.export import ExportReport, export
from resattn.serving.exported_model import METADATA_KEY, ExportedModel
from resattn.version import __version__

onnx = pytest.importorskip("onnx")
RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def network() -> ResidualAttentionNetwork:
    """A network of odd input size whose normalisations and masks have something to do."""
    torch.manual_seed(0)
    network = create_model("resattn_mini", num_classes=3, mask_width=8)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and not layer.weight.any():
            torch.nn.init.normal_(layer.weight, std=0.3)
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.rand(8, 3, SIDE, SIDE))
    network.pretrained_cfg = {
        **network.pretrained_cfg,
        "input_size": (3, SIDE, SIDE),
        "label_names": ("n1", "n2", "n3"),
        "label_descriptions": {"n1": "café", "n2": "猫", "n3": "x"},
        "data": "nothing",
    }
    return network


@pytest.fixture(scope="module")
def report(network: ResidualAttentionNetwork, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The network, exported with its masks."""
    path = tmp_path_factory.mktemp("exported") / "network.onnx"
    return export(network, path, masks=True, progress=False)


@pytest.fixture
def graph(report: ExportReport, monkeypatch: pytest.MonkeyPatch):
    """The exported graph, which the next export takes for the network's: a test may damage it first."""
    graph = onnx.load(report.path)
    del graph.metadata_props[:]
    monkeypatch.setattr(exporting, "onnx_graph", lambda network, *, masks: graph)
    return graph


def test_what_was_compared_is_reported(report: ExportReport, network: ResidualAttentionNetwork) -> None:
    found = report.comparison
    assert (found.compared_on, found.images, found.agreement) == ("noise", 64, 1.0)
    assert 0 <= found.largest_difference < 1e-4 < found.largest_output
    assert found.top1_network is None and found.top1_file is None
    assert report.bytes == report.path.stat().st_size
    assert report.masks == ("stage1.0", "stage2.0")
    printed = json.loads(json.dumps(report.to_json()))
    assert printed["largest_difference"] == found.largest_difference
    assert network.training  # the caller's network is as it was


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("count", [1, 3, 70])
def test_any_number_of_images_gives_the_networks_logits_and_masks(
    report: ExportReport, network: ResidualAttentionNetwork, runtime, count: int
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    exported = ExportedModel.open(report.path, runtime=runtime, threads=1)
    pixels = images(count)
    with torch.inference_mode():
        expected = network.eval().forward_with_masks(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    logits, masks = exported.with_masks(pixels)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-4)
    np.testing.assert_array_equal(exported(pixels), logits)
    assert list(masks) == list(expected.masks)
    for name, mask in masks.items():
        assert float(mask.std()) > 1e-3  # there is something to be wrong about
        np.testing.assert_allclose(mask, expected.masks[name].numpy(), atol=1e-5)


def test_the_file_says_what_it_is(report: ExportReport) -> None:
    exported = ExportedModel.open(report.path)
    assert (exported.model, exported.data, exported.format) == ("resattn_mini", "nothing", "onnx")
    assert exported.labels == ("n1", "n2", "n3")
    assert exported.descriptions == ("café", "猫", "x")
    assert exported.input_size == (3, SIDE, SIDE)
    assert exported.mask_names == ("stage1.0", "stage2.0")


def test_the_file_says_nothing_of_the_machine_it_was_made_on(report: ExportReport) -> None:
    content = report.path.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b'File "' not in content


def test_nothing_but_a_runtime_is_needed(report: ExportReport) -> None:
    code = f"""
import json, sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession({str(report.path)!r}, providers=["CPUExecutionProvider"])
[images] = session.get_inputs()
known = json.loads(session.get_modelmeta().custom_metadata_map["resattn"])
[logits] = session.run(["logits"], {{images.name: np.zeros((2, 3, {SIDE}, {SIDE}), np.float32)}})
print(json.dumps([known, images.type, images.shape, logits.shape, "torch" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known, kind, shape, logits, torch_imported = json.loads(done.stdout)
    assert kind == "tensor(float)" and shape[1:] == [3, SIDE, SIDE] and isinstance(shape[0], str)
    assert logits == [2, 3] and not torch_imported
    assert known["resattn"] == __version__
    assert known["input"]["range"] == [0, 1] and known["input"]["channels"] == "RGB"
    assert known["normalization"]["where"] == "inside"
    assert known["normalization"]["mean"] == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_many_threads_may_call_at_once(report: ExportReport, runtime) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    exported = ExportedModel.open(report.path, runtime=runtime, threads=1)
    batches = [images(count) for count in range(1, 9)]
    expected = [exported(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, logits in zip(pool.map(exported, batches), expected, strict=True):
            np.testing.assert_allclose(found, logits, atol=1e-6)


def _more(graph) -> None:
    """Other weights."""
    weights = next(one for one in graph.graph.initializer if one.name.endswith("head.fc.bias"))
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) + 1e-3, weights.name))


def _not_a_number(graph) -> None:
    weights = next(one for one in graph.graph.initializer if one.name.endswith("head.fc.bias"))
    array = np.full_like(onnx.numpy_helper.to_array(weights), np.nan)
    weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))


def _masks_swapped(graph) -> None:
    """Right logits, and masks under each other's name."""
    swapped = {"stage1.0": "stage2.0", "stage2.0": "stage1.0"}
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = [swapped.get(name, name) for name in names]


@pytest.mark.parametrize("damage", [_more, _not_a_number, _masks_swapped])
def test_a_file_that_errs_is_not_kept(
    network: ResidualAttentionNetwork, graph, tmp_path: Path, damage: Callable[..., None]
) -> None:
    damage(graph)
    with pytest.raises(ResattnError, match="the exported file is wrong"):
        export(network, tmp_path / "network.onnx", masks=True, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_where_a_new_one_errs(
    network: ResidualAttentionNetwork, graph, tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"older")
    _more(graph)
    with pytest.raises(ResattnError):
        export(network, path, masks=True, progress=False)
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(
    network: ResidualAttentionNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ResattnError) as refused:
        export(network, tmp_path / "network.onnx")
    assert package in refused.value.what
    assert refused.value.mend == "pip install 'resattn[export]'"


def test_a_missing_runtime_is_named(report: ExportReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ResattnError, match=r"resattn\[openvino\]"):
        ExportedModel.open(report.path, runtime="openvino")


def test_only_exported_files_are_opened(report: ExportReport, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    with pytest.raises(ResattnError, match="does not exist"):
        ExportedModel.open(path)
    path.write_bytes(b"not a graph")
    with pytest.raises(ResattnError, match="is no ONNX file"):
        ExportedModel.open(path)
    graph = onnx.load(report.path)
    for text in (None, "{", '{"model": "x"}', "[]", '{"model": 1, "label_names": 3}'):
        del graph.metadata_props[:]
        if text is not None:
            onnx.helper.set_model_props(graph, {METADATA_KEY: text})
        path.write_bytes(graph.SerializeToString())
        with pytest.raises(ResattnError, match="does not say what it takes and gives"):
            ExportedModel.open(path)
    with pytest.raises(ResattnError, match="threads is 0"):
        ExportedModel.open(report.path, threads=0)


@pytest.mark.parametrize(
    "wrong",
    [images(2).astype(np.float32), images(2)[0], images(2, SIDE + 1), images(2)[:0], images(2)[..., :1]],
    ids=["floats", "no batch", "another size", "none", "grey"],
)
def test_images_of_another_kind_are_refused(report: ExportReport, wrong: np.ndarray) -> None:
    with pytest.raises(ResattnError, match="takes one or more images of uint8, N x 37 x 37 x 3"):
        ExportedModel.open(report.path)(wrong)


def test_a_network_without_classes_or_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match="no classifier"):
        export(create_model("resattn_mini", num_classes=0), tmp_path / "x.onnx")
    unsized = create_model("resattn_mini", num_classes=2)
    unsized.pretrained_cfg = {}
    with pytest.raises(ResattnError, match="what image size"):
        export(unsized, tmp_path / "x.onnx")


def test_int8_needs_training_images_and_labelled_ones(
    network: ResidualAttentionNetwork, graph, trained_dots, tmp_path: Path
) -> None:
    val, train = open_split("dots", "val"), open_split("dots", "train")
    for check, calibration, told in (
        (None, train, "int8 needs images"),
        (val, None, "int8 needs images"),
        (val, val, "cannot calibrate"),
        (val, train, "no labels of the network's classes"),
    ):
        with pytest.raises(ResattnError, match=told):
            export(
                network,
                tmp_path / "x.onnx",
                format="onnx-int8",
                check=check,
                calibration=calibration,
                masks=True,
                progress=False,
            )
    assert list(tmp_path.iterdir()) == []

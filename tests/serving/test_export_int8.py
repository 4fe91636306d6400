"""Files of int8 are measured on real images, may lose no more than is allowed, and leave nothing behind."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_images import SIDE, images

from resattn import files
from resattn.data.packed import PackedSplit, open_split
from resattn.errors import ResattnError
from resattn.models import create_model
from resattn.models.loading import load
from resattn.serving import quantization
from resattn.serving.check_images import at_size, noise, real_images
from resattn.serving.export import export
from resattn.serving.export_check import Comparison, require_accuracy
from resattn.serving.exported_model import ExportedModel

onnx = pytest.importorskip("onnx")


def test_int8_is_measured_on_the_validation_split_and_smaller(trained_dots, tmp_path: Path) -> None:
    network, val, train = load(trained_dots.run), open_split("dots", "val"), open_split("dots", "train")
    small = export(
        network,
        tmp_path / "int8.onnx",
        format="onnx-int8",
        masks=True,
        check=val,
        calibration=train,
        allowed_loss=10,
        progress=False,
    )
    found = small.comparison
    assert (found.compared_on, found.images) == ("dots val", 24)
    assert found.top1_network is not None and found.top1_file is not None
    assert found.top1_file >= found.top1_network - 0.1
    assert small.bytes < 2 * sum(one.numel() for one in network.parameters())
    exported = ExportedModel.open(small.path)
    assert (exported.format, exported.labels) == ("onnx-int8", val.class_ids)
    pixels = np.array(val.images[:3])
    masks = exported.with_masks(pixels)[1]
    with torch.inference_mode():
        expected = network.forward_with_masks(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).masks
    assert masks.keys() == expected.keys()
    for name, mask in masks.items():
        np.testing.assert_allclose(mask, expected[name].numpy(), atol=0.1)
    weights = [
        one for one in onnx.load(small.path).graph.initializer if one.data_type == onnx.TensorProto.INT8
    ]
    assert weights and all(np.abs(onnx.numpy_helper.to_array(one)).max() <= 64 for one in weights)


def test_a_loss_beyond_what_is_allowed_is_refused() -> None:
    lossy = Comparison("dots val", 1000, 3.0, 9.0, 0.9, top1_network=0.5, top1_file=0.49)
    require_accuracy(lossy, allowed_loss=1.0)
    with pytest.raises(ResattnError, match=r"loses 1\.00 points of top-1 \(50\.00% to 49\.00%") as refused:
        require_accuracy(lossy, allowed_loss=0.9)
    assert refused.value.mend.endswith("--allow-loss 1")
    with pytest.raises(ResattnError):
        require_accuracy(replace(lossy, largest_difference=float("inf")), allowed_loss=100)


def test_images_to_compare_on(trained_dots) -> None:
    network, val = load(trained_dots.run), open_split("dots", "val")
    some = real_images(network, val, limit=5)
    assert some.name == "dots val" and len(some.pixels) == len(some.labels) == 5
    assert set(some.labels) == {0, 1}
    foreign = create_model("resattn_mini", num_classes=7)
    assert real_images(foreign, val).labels is None
    np.testing.assert_array_equal(noise((3, 9, 7)).pixels, noise((3, 9, 7)).pixels)
    assert noise((3, 9, 7)).pixels.shape == (64, 9, 7, 3)
    pixels = images(2)
    assert at_size(pixels, (SIDE, SIDE)) is pixels
    assert at_size(images(2), (20, 20)).shape == (2, 20, 20, 3)
    np.testing.assert_array_equal(at_size(np.full((1, 9, 9, 3), 77, np.uint8), (5, 5)), 77)


def test_a_signal_while_int8_measures_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, label = np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros(1, np.int64)
    train = PackedSplit("blank", "train", pixels, label, None, ("a.png",), ("a",), ("a",), "0" * 64)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def ended_by_a_signal(*_arguments: object) -> None:
        assert len(list(tmp_path.iterdir())) == 1
        files.remove_unfinished()
        assert list(tmp_path.iterdir()) == []
        raise InterruptedError

    monkeypatch.setattr(quantization, "_batches_for", ended_by_a_signal)
    with pytest.raises(InterruptedError):
        quantization.quantize(onnx.ModelProto(), train, size=(SIDE, SIDE))

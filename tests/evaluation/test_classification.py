"""Figures worked out by hand, and the files they are written to."""

import csv
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import resattn
from resattn.errors import ResattnError
from resattn.evaluation.classification import evaluate, write_results
from resattn.hardware import Execution, reference_execution
from resattn.tables import print_scores

Make = Callable[..., Any]
# Probabilities of the three answers an oracle can give.
ANSWERS = [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5]]
LOGITS = [[math.log(p) + 3 for p in row] for row in ANSWERS]
NARROW = ["ant", "bee", "cat"]


def test_hand_checked_scores_with_a_short_last_batch(oracle: Make, make_split: Make) -> None:
    # Answers 0 0 1 2 2 against labels 0 1 1 2 0: right, wrong, right, right, wrong.
    split = make_split([0, 0, 1, 2, 2], [0, 1, 1, 2, 0])
    network = oracle(LOGITS, NARROW)
    result = evaluate(network, split, batch_size=2, progress=False)
    assert network.batch_sizes == [2, 2, 1]
    assert (result.data, result.split, result.images, result.model) == ("insects", "val", 5, "oracle")
    assert result.top1 == 3 / 5
    assert result.top5 == 1.0
    expected = -sum(math.log(p) for p in (0.7, 0.2, 0.6, 0.5, 0.2)) / 5
    assert result.loss == pytest.approx(expected, rel=1e-6)
    # Bins of 1/15: 0.7 twice (one right), 0.6 once (right), 0.5 twice (one right).
    gap = 2 / 5 * abs(0.5 - 0.7) + 1 / 5 * abs(1 - 0.6) + 2 / 5 * abs(0.5 - 0.5)
    assert result.ece == pytest.approx(gap, abs=1e-6)
    assert result.confusion.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert result.class_mean_top1 == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert [(row.id, row.images, row.top1, row.top5) for row in result.per_class] == [
        ("ant", 2, 0.5, 1.0),
        ("bee", 2, 0.5, 1.0),
        ("cat", 1, 1.0, 1.0),
    ]


def test_the_last_bin_of_confidence_ends_with_certainty(oracle: Make, make_split: Make) -> None:
    # Right 19 times of 20 where certain, and always where it says 0.95: as sure as it should be, on the whole.
    network = oracle([[100.0, 0, 0], [math.log(0.95), math.log(0.03), math.log(0.02)], [0, 0, 9]], NARROW)
    split = make_split([0] * 20 + [1] * 20, [0] * 19 + [1] + [0] * 20)
    assert evaluate(network, split, progress=False).ece == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batch_size_changes_nothing(oracle: Make, make_split: Make, batch_size: int) -> None:
    codes = [0, 1, 2, 2, 1, 0, 0]
    split = make_split(codes, [0, 1, 1, 2, 0, 0, 2])
    whole, cut = (evaluate(oracle(LOGITS), split, batch_size=n, progress=False) for n in (7, batch_size))
    assert cut.loss == pytest.approx(whole.loss, rel=1e-12)
    assert (cut.top1, cut.top5, cut.ece) == (whole.top1, whole.top5, whole.ece)


def test_top5_of_many_classes(oracle: Make, make_split: Make) -> None:
    # Class k is the (k+1)-th likeliest: the right class is among the first five for labels 0 to 4 only.
    ids = [f"c{k}" for k in range(8)]
    split = make_split([0] * 8, range(8), class_ids=ids)
    result = evaluate(oracle([[-float(k) for k in range(8)]], ids), split, progress=False)
    assert (result.top1, result.top5) == (1 / 8, 5 / 8)
    assert [row.top5 for row in result.per_class] == [1, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_few_classes(oracle: Make, make_split: Make, classes: int) -> None:
    ids = [f"c{k}" for k in range(classes)]
    split = make_split([0] * classes, range(classes), class_ids=ids)
    result = evaluate(oracle([[-float(k) for k in range(classes)]], ids), split, progress=False)
    assert (result.top1, result.top5) == (1 / classes, 1.0)
    assert result.confusion.shape == (classes, classes)


def test_flip_average_is_reported_beside_the_single_view(oracle: Make, make_split: Make) -> None:
    # The one image says class 0 (0.7), its mirror image class 2 (0.5); the right class is 1.
    split = make_split([0], [1], mirrored=[2])
    plain = evaluate(oracle(LOGITS), split, progress=False)
    both = evaluate(oracle(LOGITS), split, flip="average", progress=False)
    assert plain.flip_average is None
    assert "flip_average" not in plain.to_json()
    assert (both.top1, both.loss) == (plain.top1, plain.loss)
    assert both.flip_average is not None
    assert both.flip_average.loss == pytest.approx(-math.log((0.2 + 0.3) / 2), rel=1e-6)
    assert both.flip_average.ece == pytest.approx((0.7 + 0.2) / 2, rel=1e-6)
    assert set(both.to_json()["flip_average"]) == {"top1", "top5", "loss", "ece"}


def test_limit_is_spread_over_the_split(oracle: Make, make_split: Make) -> None:
    split = make_split([0] * 10 + [1] * 10, [0] * 10 + [1] * 10)
    result = evaluate(oracle(LOGITS), split, limit=4, progress=False)
    assert result.images == 4
    assert [row.images for row in result.per_class] == [2, 2, 0]
    assert result.per_class[2].top1 is None
    assert evaluate(oracle(LOGITS), split, limit=1000, progress=False).images == 20
    with pytest.raises(ResattnError, match="limit is 0"):
        evaluate(oracle(LOGITS), split, limit=0, progress=False)
    with pytest.raises(ResattnError, match="batch size is 0"):
        evaluate(oracle(LOGITS), split, batch_size=0, progress=False)


def test_images_without_a_label_are_left_out(oracle: Make, make_split: Make) -> None:
    result = evaluate(oracle(LOGITS), make_split([0, 1, 2], [0, -1, 2]), progress=False)
    assert (result.images, result.top1) == (2, 1.0)


def test_unlabelled_split_names_the_mend(oracle: Make, make_split: Make) -> None:
    with pytest.raises(ResattnError, match="test split of insects has no labels") as caught:
        evaluate(oracle(LOGITS), make_split([0, 1], [-1, -1], split="test"), progress=False)
    assert "--submission" in caught.value.mend


def test_classes_must_be_those_of_the_split(oracle: Make, make_split: Make) -> None:
    split = make_split([0], [0])
    with pytest.raises(ResattnError, match="oracle knows 2 classes, and insects has 3"):
        evaluate(oracle([[0.0, 1.0]], ["ant", "bee"]), split, progress=False)
    with pytest.raises(ResattnError, match="have different classes: cow here is cat there"):
        evaluate(oracle(LOGITS, ["ant", "bee", "cow"]), split, progress=False)
    with pytest.raises(ResattnError, match="knows 2 classes"):
        evaluate(oracle([[0.0, 1.0]]), split, progress=False)


def test_broken_weights_are_told(oracle: Make, make_split: Make) -> None:
    with pytest.raises(ResattnError, match="not finite"):
        evaluate(oracle([[float("nan"), 0, 0]]), make_split([0], [0]), progress=False)


def test_mode_is_put_back_and_no_gradient_is_kept(oracle: Make, make_split: Make) -> None:
    network = oracle(LOGITS).train()
    evaluate(network, make_split([0], [0]), progress=False)
    assert network.training
    with pytest.raises(ResattnError):
        evaluate(oracle([[float("inf"), 0, 0]]).train(), make_split([0], [0]), progress=False)


def test_precision_and_layout_follow_the_execution(make_split: Make) -> None:
    seen = []

    class Probe(nn.Module):
        num_classes = 3

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = self.convolution(images)
            seen.append((out.dtype, images.is_contiguous(memory_format=torch.channels_last)))
            return out.mean((2, 3))

    split = make_split([9, 200], [0, 1])
    execution = Execution(torch.device("cpu"), "bf16", True, "a test")
    result = evaluate(Probe(), split, execution=execution, progress=False)
    assert (result.precision, result.device) == ("bf16", "cpu")
    contiguous = Execution(torch.device("cpu"), "fp32", False, "a test")
    assert evaluate(Probe(), split, execution=contiguous, progress=False).precision == "fp32"
    assert seen == [(torch.bfloat16, True), (torch.float32, False)]
    assert reference_execution("cpu").precision == "fp32"


@pytest.mark.parametrize("model", ["resattn_mini", "resattn_mini_plain"])
def test_real_network_on_images_of_an_odd_size(make_split: Make, model: str) -> None:
    torch.manual_seed(0)
    network = resattn.create_model(model, num_classes=3)
    split = make_split([0, 1, 2, 0, 1], [0, 1, 2, 2, 1])
    images = np.random.default_rng(0).integers(0, 256, (5, 37, 50, 3), dtype=np.uint8)
    split = dataclasses.replace(split, images=images)
    result = evaluate(network, split, batch_size=2, progress=False)
    assert result.model == model
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    labels = torch.from_numpy(split.labels)
    assert result.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-4)
    assert result.top1 == float((logits.argmax(1) == labels).double().mean())


def test_the_mean_over_classes_is_told_where_they_are_uneven(
    oracle: Make, make_split: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    print_scores(evaluate(oracle(LOGITS), make_split([0, 0, 1], [0, 0, 0]), progress=False))
    print_scores(evaluate(oracle(LOGITS), make_split([0, 1], [0, 1]), progress=False))
    assert "the mean of" not in capsys.readouterr().out
    print_scores(evaluate(oracle(LOGITS), make_split([0, 0, 0, 0, 0], [0, 0, 0, 0, 1]), progress=False))
    printed = " ".join(capsys.readouterr().out.split())
    assert "Classes with images have 1 to 4; the mean of their top-1 is 50.00%." in printed
    assert "top-5" not in printed


def test_results_are_written_whole(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    result = evaluate(
        oracle(LOGITS, NARROW), make_split([0, 0, 1], [0, 1, 1]), flip="average", progress=False
    )
    folder = tmp_path / "new" / "results"
    write_results(result, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "per_class.csv",
        "results.json",
    ]
    fields = json.loads((folder / "results.json").read_text())
    assert fields == result.to_json()
    required = {"data", "split", "images", "top1", "top5", "loss", "ece", "model", "seconds"}
    assert required <= fields.keys()
    assert fields["top1"] == 2 / 3
    with (folder / "per_class.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "name", "images", "top1", "top5"]
    assert rows[1:] == [
        ["ant", "the ant, a class", "1", "1", "1"],
        ["bee", "the bee, a class", "2", "0.5", "1"],
        ["cat", "the cat, a class", "0", "", ""],
    ]
    assert np.asarray(Image.open(folder / "confusion.png")).std() > 10


def test_no_results_where_the_folder_cannot_be(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    result = evaluate(oracle(LOGITS), make_split([0], [0]), progress=False)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResattnError, match=r"cannot write .*file.per_class\.csv"):
        write_results(result, tmp_path / "file")


def test_class_names_that_are_no_unicode_survive(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    split = make_split([0, 1], [0, 1], class_ids=["caf\udce9", "x", "猫"])
    write_results(evaluate(oracle(LOGITS), split, progress=False), tmp_path)
    assert b"caf\xe9" in (tmp_path / "per_class.csv").read_bytes()

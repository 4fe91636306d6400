"""Scores worked out by hand, and the protocol: tuned on one split, measured on another."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import resattn
from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.evaluation.localization import (
    THRESHOLDS,
    centred_blob,
    evaluate_localization,
    saliency_maps,
    write_localization,
)
from resattn.evaluation.localization_scores import BoxAccuracy, EnergyInBox, PointingGame, covered
from resattn.evaluation.saliency import running_with_gradients
from resattn.hardware import reference_execution
from resattn.tables import print_localization

BOX = torch.tensor([[1.0, 0.0, 3.0, 2.0]])  # four of the sixteen pixels of 4 x 4


def inside(boxes: torch.Tensor = BOX) -> torch.Tensor:
    return covered(boxes, torch.zeros(len(boxes), 4, 4)).float()


def test_pixels_a_box_covers_in_part_count_in_part() -> None:
    found = covered(torch.tensor([[0.5, 1.0, 2.25, 3.0]]), torch.zeros(1, 3, 4))[0]
    assert found.tolist() == [[0, 0, 0, 0], [0.5, 1, 0.25, 0], [0.5, 1, 0.25, 0]]
    beyond = covered(torch.tensor([[-3.0, -3.0, 9.0, 9.0]]), torch.zeros(1, 3, 4))
    assert beyond.min() == 1


def test_pointing_game_by_hand() -> None:
    game = PointingGame()
    hit, miss = torch.zeros(4, 4), torch.zeros(4, 4)
    hit[1, 2] = 0.3
    miss[1, 3] = 0.9  # x is 3, and the box ends before
    game.update(torch.stack([hit, miss]), BOX.repeat(2, 1))
    assert float(game.compute()) == 1 / 2
    game.update(torch.full((1, 4, 4), 0.7), BOX)  # every pixel is as good: a quarter of them lies inside
    assert float(game.compute()) == pytest.approx((1 + 0 + 1 / 4) / 3)
    tie = torch.zeros(1, 4, 4)
    tie[0, 0, 1] = tie[0, 3, 3] = 1.0
    game.reset()
    game.update(tie, BOX)
    assert float(game.compute()) == 1 / 2


def test_energy_in_box_by_hand() -> None:
    energy = EnergyInBox()
    energy.update(inside(), BOX)
    assert float(energy.compute()) == 4.0, "a perfect map: all of the sum in a quarter of the area"
    energy.update(torch.zeros(1, 4, 4), BOX)
    assert float(energy.compute()) == pytest.approx((1 + 1 / 4) / (1 / 4 + 1 / 4)), (
        "a map of zeros is uniform"
    )
    energy.reset()
    energy.update(torch.ones(2, 4, 4), torch.tensor([[1.0, 0, 3, 2], [0.5, 0.5, 4, 4]]))
    assert float(energy.compute()) == 1.0
    energy.reset()
    energy.update(1 - inside(), BOX)
    assert float(energy.compute()) == 0.0


def test_box_accuracy_counts_an_overlap_of_exactly_a_half() -> None:
    accuracy = BoxAccuracy([0.2, 0.9])
    half = inside() * 0.5
    half[0, 0, 1:3] = 1.0  # above 0.9 only the upper half of the box: IoU 1/2
    accuracy.update(half, BOX)
    assert accuracy.compute().tolist() == [1.0, 1.0]
    less = torch.zeros(1, 4, 4)
    less[0, 0, 1] = 1.0  # IoU 1/4
    accuracy.update(less, BOX)
    assert accuracy.compute().tolist() == [0.5, 0.5]


def test_metrics_are_the_same_in_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(7, 4, 4, generator=generator)
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 4, 4], [0, 2, 4, 4]]).repeat(3, 1)[:7]
    for metric in (PointingGame, EnergyInBox, lambda: BoxAccuracy(THRESHOLDS)):
        whole, parts = metric(), metric()
        whole.update(maps, boxes)
        for rows in ((0, 3), (3, 4), (4, 7)):
            parts.update(maps[slice(*rows)], boxes[slice(*rows)])
        assert torch.equal(whole.compute(), parts.compute())


@pytest.fixture
def boxed(make_split: Callable[..., PackedSplit]) -> Callable[..., PackedSplit]:
    """Builds a split of 40 x 32 noise whose object is a bright patch; the last image has no box."""

    def make(images: int, *, split: str = "val", seed: int = 0) -> PackedSplit:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, images + 1)
        pixels = rng.integers(0, 90, (images + 1, 40, 32, 3), dtype=np.uint8)
        boxes = np.full((images + 1, 4), np.nan, dtype=np.float32)
        for row in range(images):
            left, top = rng.integers(0, 14, 2)
            boxes[row] = (left, top, left + 16, top + 20)
            pixels[row, top : top + 20, left : left + 16] += 150
        made = make_split(np.zeros(images + 1, dtype=int), labels, split=split)
        return dataclasses.replace(made, images=pixels, boxes=boxes)

    return make


def network(name: str = "resattn_mini") -> Any:
    torch.manual_seed(0)
    return resattn.create_model(name, num_classes=3)


def test_evaluation_tunes_on_one_split_and_measures_on_the_other(boxed: Any, tmp_path: Path) -> None:
    split, tuning = boxed(9), boxed(12, split="train", seed=1)
    result = evaluate_localization(
        network(), split, tuning_split=tuning, tuning_images=10, batch_size=4, progress=False
    )
    assert (result.images, result.tuning_images, result.tuning_split) == (9, 10, "train")
    scores = {score.name: score for score in result.scores}
    names = ["uniform map", "centred blob", "Grad-CAM"]
    assert list(scores)[:3] == names
    assert list(scores)[-1] == "combined"
    assert {"stage 1: mask", "stage 2: mask", "stage 1: sensitivity"} <= scores.keys()
    assert [score.name for score in result.scores if score.kind == "baseline"] == names
    uniform = scores["uniform map"]
    assert uniform.energy == pytest.approx(1)
    assert uniform.pointing == pytest.approx(16 * 20 / (40 * 32))
    assert uniform.box_accuracy == 0  # the whole image is four times the box
    assert all(score.threshold in THRESHOLDS for score in result.scores)
    # Measured on the images it was tuned on, the box accuracy is the tuned one.
    same = evaluate_localization(network(), split, tuning_split=split, progress=False)
    assert all(score.box_accuracy == score.tuning_box_accuracy for score in same.scores)
    write_localization(result, tmp_path / "new")
    written = json.loads((tmp_path / "new" / "localization.json").read_text())
    assert written["scores"][0]["pointing"] == uniform.pointing
    assert (written["model"], written["images"]) == ("resattn_mini", 9)
    with Image.open(tmp_path / "new" / "localization.png") as drawing:
        assert np.asarray(drawing.convert("L")).std() > 10
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_batches_change_nothing_and_the_mode_is_put_back(boxed: Any) -> None:
    split, trained = boxed(7), network().train()
    options: dict[str, Any] = {"tuning_split": split, "progress": False}
    whole = evaluate_localization(trained, split, **options)
    cut = evaluate_localization(trained, split, batch_size=3, **options)
    assert trained.training
    for one, other in zip(whole.scores, cut.scores, strict=True):
        assert dataclasses.astuple(one)[2:] == pytest.approx(dataclasses.astuple(other)[2:], abs=1e-4)
    assert evaluate_localization(trained, split, limit=3, **options).images == 3


def test_a_network_without_masks_has_baselines_only(boxed: Any) -> None:
    result = evaluate_localization(
        network("resattn_mini_plain"), boxed(4), tuning_split=boxed(4, seed=1), progress=False
    )
    assert [score.name for score in result.scores] == ["uniform map", "centred blob", "Grad-CAM"]


def test_what_cannot_be_scored_is_told(boxed: Any, make_split: Any) -> None:
    split = boxed(3)
    without = dataclasses.replace(split, boxes=None)
    empty = dataclasses.replace(split, boxes=np.full((4, 4), np.nan, dtype=np.float32))
    for bad in (without, empty):
        with pytest.raises(ResattnError, match="val split of insects has no boxes"):
            evaluate_localization(network(), bad, tuning_split=split, progress=False)
        with pytest.raises(ResattnError, match="no boxes"):
            evaluate_localization(network(), split, tuning_split=bad, progress=False)
    two = resattn.create_model("resattn_mini", num_classes=2)
    with pytest.raises(ResattnError, match="knows 2 classes, and insects has 3"):
        evaluate_localization(two, split, tuning_split=split, progress=False)


def test_every_map_lies_between_0_and_1() -> None:
    made = network()
    with running_with_gradients(made, reference_execution("cpu")):
        for name, saliency in saliency_maps(made, torch.rand(2, 3, 33, 48)):
            assert saliency.shape == (2, 33, 48), name
            assert 0 <= float(saliency.min()) <= float(saliency.max()) <= 1, name
            assert not saliency.requires_grad


def test_the_blob_is_in_the_middle_and_level() -> None:
    blob = centred_blob(6, 9)[0]
    assert divmod(int(blob.argmax()), 9) in {(2, 4), (3, 4)}
    assert torch.allclose(blob, blob.flip(0), atol=1e-6)
    assert torch.allclose(blob, blob.flip(1), atol=1e-6)


def test_the_table_has_a_line_a_reading(boxed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate_localization(network(), boxed(3), tuning_split=boxed(3, split="train"), progress=False)
    print_localization(result)
    told = capsys.readouterr().out
    assert all(score.name in told for score in result.scores)
    assert "25.0%" in told
    assert "tuned on 3 boxes of train" in " ".join(told.split())


def test_what_naive_attention_adds_is_not_read_as_residual_attention() -> None:
    images = torch.rand(1, 3, 32, 32)
    readings = {}
    for learning in ("residual", "naive"):
        network = resattn.create_model("resattn_mini", num_classes=3, learning=learning)
        with running_with_gradients(network, reference_execution("cpu")):
            readings[learning] = {name for name, _ in saliency_maps(network, images)}
    assert readings["residual"] - readings["naive"] == {"stage 1: contribution", "stage 2: contribution"}

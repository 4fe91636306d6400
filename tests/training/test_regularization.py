"""Wrong labels, smoothed labels, weighted classes, averaged weights: a recipe's fields do what they say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

import resattn
from resattn.data.augmentation import Augmentation
from resattn.data.batches import Batch
from resattn.data.image_folder import prepare_image_folder
from resattn.hardware import choose_execution
from resattn.training.class_weights import balanced_weights, told_if_uneven
from resattn.training.recipe import Optimization, Recipe
from resattn.training.run import train
from resattn.training.run_folder import RunFolder
from resattn.training.task import training_loss

STEADY = Recipe(
    data="dots",
    model_options={"width_scale": 0.25},
    batch_size=16,
    start_scale=1.0,
    validations=1,
    averaging=0.0,
    precision="fp32",
    optimization=Optimization(optimizer="adamw", lr=0.003, schedule="constant", warmup=0.0),
    augmentation=Augmentation(flip="none", shift=0),
)


def test_a_network_learns_the_labels_that_the_recipe_makes_wrong(dots: str, tmp_path: Path) -> None:
    for noise in (0.0, 1.0):
        result = train(STEADY.replace(steps=25, label_noise=noise), RunFolder(tmp_path / f"{noise}"))
        assert abs(result.top1 - (1 - noise)) < 0.1  # of two classes the other one


def test_the_saved_weights_are_the_average_over_steps(dots: str, tmp_path: Path) -> None:
    def weights_after(steps: int, averaging: float = 0.0) -> Tensor:
        folder = RunFolder(tmp_path / f"{steps}-{averaging}")
        train(STEADY.replace(steps=steps, averaging=averaging), folder)
        return load_file(folder.weights_file)["head.fc.weight"]

    first, second, third = (weights_after(steps) for steps in (1, 2, 3))
    # Over two thirds of three steps: each step halves the weight of those before it.
    torch.testing.assert_close(weights_after(3, averaging=2 / 3), (first + second) / 4 + third / 2)
    assert not torch.allclose(first, third, atol=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_smoothed_labels_are_in_the_loss(share: float) -> None:
    torch.manual_seed(0)
    network = resattn.create_model("resattn_mini_plain", num_classes=5, width_scale=0.25)
    labels, others = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 3, 2, 1])
    batch = Batch(torch.rand(4, 3, 32, 32), labels, others, share)
    loss, logits = training_loss(network, batch, choose_execution("fp32", "cpu"), 0.2)
    targets = share * functional.one_hot(labels, 5) + (1 - share) * functional.one_hot(others, 5)
    expected = -((0.8 * targets + 0.2 / 5) * torch.log_softmax(logits, 1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_weights_of_classes_multiply_the_loss_of_their_images() -> None:
    torch.manual_seed(0)
    network = resattn.create_model("resattn_mini_plain", num_classes=3, width_scale=0.25)
    labels, others = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 2, 1, 0])
    weights = torch.tensor([0.5, 2.0, 1.0])
    batch = Batch(torch.rand(4, 3, 32, 32), labels, others, 0.7)
    execution = choose_execution("fp32", "cpu")
    loss, logits = training_loss(network, batch, execution, 0.0, class_weights=weights)
    logs = torch.log_softmax(logits, 1)
    one, two = (weights[its] * -logs[range(4), its] for its in (labels, others))
    torch.testing.assert_close(loss, (0.7 * one + 0.3 * two).mean())


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    labels = np.array([0] * 30 + [1] * 10 + [3] * 5)
    weights = balanced_weights(labels, 4)
    assert weights.tolist() == pytest.approx([0.5, 1.5, 0.0, 3.0])
    assert weights[labels].mean().item() == pytest.approx(1.0)
    assert told_if_uneven(labels[labels < 2], ("cat", "dog")) == ""
    told = told_if_uneven(np.array([0] * 30 + [1] * 6), ("cat", "dog"))
    assert told.startswith("cat has 30 training images and dog 6: --class-weights balanced")


def test_a_run_on_few_images_of_a_class_says_so_and_weighs_them_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], draw_dots
) -> None:
    monkeypatch.setenv("RESATTN_HOME", str(tmp_path / "home"))
    folder = draw_dots(tmp_path / "uneven", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=60, side=16)
    for file in sorted((folder / "red").iterdir())[8:]:
        file.unlink()
    prepare_image_folder(folder, name="uneven", size=16, val_share=0.2)
    weights = {}
    for chosen in ("none", "balanced"):
        run = RunFolder(tmp_path / chosen)
        train(STEADY.replace(data="uneven", steps=3, class_weights=chosen), run)
        assert ("has 48 training images and red" in capsys.readouterr().err) == (chosen == "none")
        weights[chosen] = load_file(run.weights_file)["head.fc.weight"]
    assert not torch.allclose(weights["none"], weights["balanced"], atol=1e-4)

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

import resattn
from resattn.data.image_folder import prepare_image_folder
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.evaluation.classification import ClassificationResult, evaluate
from resattn.hardware import choose_execution
from resattn.training import budget
from resattn.training.history import read_history, read_rows
from resattn.training.job import without_steps
from resattn.training.recipe import Optimization, Recipe
from resattn.training.run import resume, train
from resattn.training.run_folder import RunFolder, latest_unfinished, new_run_folder
from resattn.training.task import Classification

SHORT = Recipe(data="dots", steps=20, batch_size=16, start_scale=0.5, validations=2, precision="fp32")


class Trained(NamedTuple):
    """A run that came to its end."""

    home: Path
    folder: RunFolder
    result: ClassificationResult


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory, draw_dots) -> Trained:
    """One run of the recipe, for the tests that only look at it, and its home."""
    place = tmp_path_factory.mktemp("learnt")
    images = draw_dots(place / "dots", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=60, side=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESATTN_HOME", str(place / "home"))
        prepare_image_folder(images, name="dots", size=32, val_share=0.2)
        folder = RunFolder(place / "run")
        return Trained(place / "home", folder, train(SHORT, folder))


def test_a_run_learns_and_its_folder_holds_everything(learnt: Trained) -> None:
    folder, result = learnt.folder, learnt.result
    assert result.top1 > 0.9
    names = {path.name for path in folder.path.iterdir()}
    assert names >= {
        "recipe.yaml", "environment.json", "metrics.csv", "weights.safetensors", "results.json",
        "per_class.csv", "confusion.png", "learning_curves.png", "predictions.png", "predictions.csv",
    }  # fmt: skip
    results = json.loads(folder.results_file.read_text())
    assert results.keys() >= {"data", "split", "images", "top1", "top5", "loss", "ece", "model", "seconds"}
    assert (results["data"], results["split"], results["model"]) == ("dots", "val", "resattn_mini")
    environment = json.loads(folder.environment_file.read_text())
    assert torch.__version__.startswith(environment["versions"]["torch"])
    assert yaml.safe_load(folder.recipe_file.read_text())["steps"] == 20


def test_the_saved_weights_are_the_evaluated_ones(learnt: Trained) -> None:
    network = resattn.load(learnt.folder.path)
    again = evaluate(network, open_split("dots", "val", root=learnt.home / "data"))
    assert (again.top1, again.loss) == (learnt.result.top1, learnt.result.loss)
    assert list(network.pretrained_cfg["label_names"]) == ["blue", "red"]


def test_metrics_end_with_the_final_evaluation(learnt: Trained) -> None:
    history = read_history(learnt.folder.metrics_file)
    assert history["step"][-1] == 20
    assert history["val_top1"][-1] == pytest.approx(learnt.result.top1)
    assert [row["step"] for row in read_rows(learnt.folder.metrics_file) if row["val_loss"]] == ["11", "20"]
    assert history["images"][-1] == 20 * 16
    assert set(history["size"]) == {16, 24, 32}


def test_two_runs_of_one_recipe_are_one_run(dots: str, tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("one", "two")]
    for folder in folders:
        train(SHORT.replace(steps=4), folder)
    assert folders[0].weights_file.read_bytes()[-1000:] == folders[1].weights_file.read_bytes()[-1000:]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_every_optimizer_lowers_the_loss(dots: str, tmp_path: Path, optimizer) -> None:
    lr = {"sgd": 0.1, "adamw": 0.003, "muon": 0.02}[optimizer]
    recipe = SHORT.replace(
        optimization=Optimization(optimizer=optimizer, lr=lr, momentum=0.9, weight_decay=1e-4)
    )
    folder = RunFolder(tmp_path / "run")
    train(recipe, folder)
    losses = read_history(folder.metrics_file)["train_loss"]
    assert losses[-3] < 0.8 * losses[0]


def test_a_loss_that_is_not_finite_names_step_rate_and_checkpoint(
    dots: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Classification.training_step

    def training_step(self, batch, batch_idx):
        if batch_idx == 6:
            batch = batch._replace(images=batch.images * float("inf"))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", training_step)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ResattnError) as caught:
        train(SHORT, folder, checkpoint_seconds=0)
    assert "the loss became nan at step 7 (learning rate" in caught.value.what
    assert f"last good checkpoint: {folder.checkpoints / 'step-00000006.ckpt'}" in caught.value.what
    assert "--optimization.lr" in caught.value.mend


def test_time_becomes_steps_once(dots: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    train(SHORT.replace(steps=None, time="0.5s"), folder)
    steps = folder.recipe().steps
    assert steps is not None
    assert 1 <= steps < 500
    folder.results_file.unlink()
    folder.weights_file.unlink()
    monkeypatch.setattr(budget, "measure_budget", None)
    resume(folder)
    assert folder.recipe().steps == steps


def test_epochs_become_steps(dots: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(SHORT.replace(steps=None, epochs=1.5), folder)
    assert folder.recipe().steps == 9  # 1.5 x 96 images in batches of 16


def test_what_is_missing_is_said_before_anything_is_written(dots: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for recipe, what in (
        (SHORT.replace(data="dts"), "dts"),
        (SHORT.replace(model="resattn_min"), "resattn_min"),
        (SHORT.replace(model_options={"drop": 1.0}), "drop"),
    ):
        with pytest.raises(ResattnError, match=what):
            train(recipe, folder)
        assert not folder.path.exists()


def test_run_folders_are_numbered_and_the_newest_unfinished_is_found(
    dots: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResattnError, match="no unfinished run"):
        latest_unfinished()
    first = new_run_folder(SHORT)
    assert first.path == Path("runs/dots-resattn_mini-1")
    beside = new_run_folder(SHORT)  # of a process that began before the first one trained
    assert beside.path == Path("runs/dots-resattn_mini-2")
    beside.remove_if_empty()
    first.remove_if_empty()
    with pytest.raises(ResattnError, match="there is no data set 'absent'"):
        resattn.train(data="absent", steps=2)
    assert not Path("runs").exists()
    first = new_run_folder(SHORT)
    train(SHORT.replace(steps=2), first)
    second = new_run_folder(SHORT)
    assert second.path.name == "dots-resattn_mini-2"
    train(SHORT.replace(steps=2), second)
    second.results_file.unlink()
    assert latest_unfinished() == second


def test_a_step_of_several_batches_updates_once(dots: str, tmp_path: Path, monkeypatch) -> None:
    recipe = SHORT.replace(optimization=Optimization(accumulate=3), start_scale=1.0)
    job = without_steps(recipe, RunFolder(tmp_path), None)
    network, on_cpu = job.network.cpu(), choose_execution("fp32", "cpu")
    probe = budget.Probe(network, job.recipe, job.batches(budget.PROBES), on_cpu)
    times = iter([10.0, 11.0, 11.5])
    monkeypatch.setattr(budget.time, "perf_counter", lambda: next(times))
    (kind,) = probe.shares
    assert probe.step(kind) == 3 * 1.0 + 0.5
    assert probe.mean({kind: 3.5}) == 3.5

"""The contract for other programs: verbs, options, JSON, exit statuses and messages, through the real command.

Most tests run it in their own process, which has loaded torch already; two run it as a user does.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resattn.data.shapes import prepare_shapes
from resattn.models import catalog, list_variants
from resattn.training.recipe import Recipe, find_recipe
from resattn.training.run import train
from resattn.training.run_folder import RunFolder
from resattn_launcher import app


def resattn_process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it."""
    command = [sys.executable, "-m", "resattn_launcher", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=300, env=os.environ | {"COLUMNS": "200"}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home with a few shapes, and a run that has hardly begun to learn them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESATTN_HOME", str(home))
        prepare_shapes(train_images=200, val_images=100)
        folder = RunFolder(tmp_path_factory.mktemp("runs") / "first")
        train(Recipe(steps=3, batch_size=16, validations=1), folder)
    return home, folder.path


@pytest.fixture
def run_dir(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESATTN_HOME", str(trained[0]))
    return trained[1]


def test_help_imports_neither_torch_nor_the_package() -> None:
    code = "import sys, resattn_launcher; resattn_launcher.app('--help'); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in ("prepare", "train", "evaluate", "predict", "models"))
    assert "'torch'" not in done.stderr
    assert "'resattn'" not in done.stderr


def test_importing_the_package_does_not_import_lightning_or_matplotlib() -> None:
    code = "import sys, resattn; sys.exit('pytorch_lightning' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_models_lists_every_variant_with_its_cost(resattn, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["model"]: row for row in json.loads(resattn("models", "--json").stdout)}
    assert list(rows) == list_variants()
    assert rows["resattn_56"]["parameters"] == 31_810_728
    assert rows["seed_residual"]["macs"] == 5_172_465_664
    monkeypatch.setattr(catalog, "list_variants", lambda: ["resattn_mini"])
    assert "resattn_mini" in resattn("models").stdout


def test_evaluate_prints_what_the_run_wrote(run_dir: Path, tmp_path: Path) -> None:
    done = resattn_process("evaluate", run_dir, "--data", "shapes", "--json", "--out", tmp_path / "out")
    printed = json.loads(done.stdout)
    written = json.loads((run_dir / "results.json").read_text())
    assert printed.keys() >= {"data", "split", "images", "top1", "top5", "loss", "ece", "model", "seconds"}
    assert printed["top1"] == written["top1"]
    assert printed["loss"] == pytest.approx(written["loss"], abs=1e-9)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["top1"] == printed["top1"]
    assert "flip_average" not in printed


def test_flip_average_is_reported_apart_and_files_lie_in_the_run(resattn, run_dir: Path) -> None:
    printed = json.loads(resattn("evaluate", run_dir, "--flip", "--json").stdout)
    names = {path.name for path in (run_dir / "evaluation-shapes-val").iterdir()}
    assert names == {"results.json", "per_class.csv", "confusion.png", "predictions.csv", "mistakes.png"}
    assert printed["top1"] == json.loads((run_dir / "results.json").read_text())["top1"]
    assert printed["flip_average"].keys() == {"top1", "top5", "loss", "ece"}


def test_predict_names_images_and_folders(resattn, run_dir: Path, tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        Image.fromarray(np.full((80, 100, 3), 90, dtype=np.uint8)).save(tmp_path / name)
    lines = [json.loads(line) for line in resattn("predict", run_dir, tmp_path, "--json").stdout.splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["a.jpg", "b.png"]
    assert len(lines[0]["labels"]) == len(lines[0]["probabilities"]) == 5
    assert lines[0]["probabilities"] == sorted(lines[0]["probabilities"], reverse=True)
    assert "%" in resattn("predict", run_dir, tmp_path / "a.jpg").stdout


def test_options_have_the_last_word_over_a_recipe(resattn, run_dir: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "steps: 2\nbatch_size: 8\noptimization:\n  lr: 0.01\n  optimizer: adamw\nvalidations: 1\n"
        "model_options:\n  drop_rate: 0.1\n  masked_stages: [1, 2]\n"
    )
    done = resattn(
        "train", "--recipe", recipe, "--optimization.lr", "0.002", "--model-options.drop_rate", "0.5",
        "--model-options.mask_width", "16", "--run-dir", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    resolved = RunFolder(tmp_path / "run").recipe()
    assert (resolved.steps, resolved.batch_size) == (2, 8)
    assert (resolved.optimization.lr, resolved.optimization.optimizer) == (0.002, "adamw")
    assert resolved.model_options == {"drop_rate": 0.5, "mask_width": 16, "masked_stages": [1, 2]}


def test_the_options_one_types_most_have_short_names() -> None:
    _, bound, _ = app.parse_args("train --recipe laptop-20m --lr 0.01 --optimizer sgd --weight-decay 0.001")
    chosen = bound.arguments["recipe"].optimization
    assert (chosen.lr, chosen.optimizer, chosen.weight_decay) == (0.01, "sgd", 0.001)
    assert bound.arguments["recipe"].time == "20m"
    shipped = Recipe.from_yaml(find_recipe("laptop-20m")).optimization
    assert (chosen.rest_lr, chosen.muon_iterations) == (shipped.rest_lr, shipped.muon_iterations)


def test_two_lengths_are_one_too_many(resattn, tmp_path: Path) -> None:
    done = resattn(
        "train", "--recipe", "laptop-20m", "--epochs", "10", "--time", "5m", "--run-dir", tmp_path / "run"
    )
    assert done.returncode == 1
    assert "time and epochs say twice how long the run is" in done.stderr


def test_a_length_on_the_command_line_replaces_the_recipes(resattn, run_dir: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps: 500\nbatch_size: 64\nvalidations: 1\n")
    folder = RunFolder(tmp_path / "run")
    done = resattn("train", "--recipe", recipe, "--epochs", "1", "--run-dir", folder.path)
    assert done.returncode == 0, done.stderr
    assert folder.recipe().steps == 4  # 200 images in batches of 64


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["train", "--data", "shaps"], 1, "did you mean"),
        (["train", "--batch-sze", "4"], 2, "--batch-size"),  # no such option
    ],
)
def test_a_mistake_ends_the_process_so(
    run_dir: Path, tmp_path: Path, arguments: list[str], status: int, told: str
) -> None:
    done = resattn_process(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert told in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--model", "resattn_mni"], "did you mean resattn_mini"),
        (["train", "--batch-size", "0"], "batch_size lies between"),
        (["train", "--time", "soon"], "write it like 90s, 20m or 1h30m"),
        (["train", "--recipe", "none"], "there is no recipe none"),
        (["train", "--resume"], "no unfinished run"),
        (["train", "--resume", "--seed", "4"], "leave them out"),
        (["evaluate", "nowhere"], "no run folder, weights file or model name"),
        (["evaluate", "seed_residual"], "no weights ship for seed_residual"),
        (["predict", "nowhere", "x.png"], "no run folder, weights file or model name"),
        (["prepare", "tiny-imagenet"], "--archive"),
        (["prepare", "folder", "/none", "--name", "x"], "/none"),
    ],
)
def test_mistakes_are_answered_with_the_mend(
    resattn, run_dir: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = resattn(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_submission_has_a_line_for_each_image(resattn, run_dir: Path, tmp_path: Path) -> None:
    done = resattn("evaluate", run_dir, "--split", "train", "--submission", tmp_path / "answers.txt")
    assert "200 predictions for shapes train" in done.stdout
    lines = [line.split(" ", 1) for line in (tmp_path / "answers.txt").read_text().splitlines()]
    assert len(lines) == 200
    assert all(len(line) == 2 for line in lines)


def test_a_submission_is_of_the_test_split(resattn, run_dir: Path, tmp_path: Path) -> None:
    done = resattn("evaluate", run_dir, "--submission", tmp_path / "answers.txt")
    assert done.returncode == 1
    assert "shapes has no split 'test'" in done.stderr
    assert list(tmp_path.iterdir()) == []

"""What several processes cannot train together, or not with this data, one of them says, at once."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from two_processes import RESATTN, SCRIPT, TORCHRUN, recipe_of, written

from resattn.data.image_folder import prepare_image_folder
from resattn.errors import ResattnError
from resattn.training import run
from resattn.training.history import read_history
from resattn.training.launching import launch
from resattn.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("at_home")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--run-dir", "run", "--data", "dots", "--batch-size", "18"],
            "cannot be divided among 2 processes pair by pair",
        ),
        ([], "several processes need one folder for their run"),
        (["--run-dir", "run", "--nodes", "2"], "2 machines need a place to meet"),
        (["--run-dir", "run", "--nodes", "2", "--head", "localhost:http"], "http is no port"),
        # A name for the loopback address that every resolver knows, as one in /etc/hosts would be.
        (
            ["--run-dir", "run", "--nodes", "2", "--head", "2130706433:29412"],
            "2130706433 is 127.0.0.1 here, an address that no other machine reaches",
        ),
    ],
)
def test_what_cannot_be_is_said_before_others_are_started(
    arguments: list[str], message: str, resattn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that what `launch` puts there goes again.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "0")
    done = resattn("train", "--steps", "2", "--devices", "2", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count(message) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_all_of_them_find_missing_one_of_them_says(tmp_path: Path) -> None:
    wrong = ["--data", "dotz", "--steps", "2", "--devices", "2", "--run-dir", "run"]
    done = subprocess.run([*RESATTN, *wrong], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("there is no data set 'dotz'") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.long
@pytest.mark.parametrize("images", [2, 4])
def test_every_process_has_images_to_validate_on_or_it_is_said(
    tmp_path: Path, draw_dots, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    """Four images in two batches of two would leave the third process without."""
    monkeypatch.setenv("RESATTN_HOME", str(tmp_path / "few"))
    few = draw_dots(tmp_path / "dots", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=20, side=32)
    prepare_image_folder(few, name="dots", size=32, val_share=images / 40)
    recipe = recipe_of(steps=4, batch_size=12)
    alone, three = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "three")
    command = [*RESATTN, "--recipe", written(recipe, tmp_path), "--run-dir", str(three.path)]
    done = subprocess.run([*command, "--devices", "3"], capture_output=True, text=True)
    if images < 3:
        assert done.returncode == 1
        assert done.stderr.count("dots has 2 images to validate on, too few for 3 processes") == 1
        assert not three.recipe_file.exists()
        return
    assert done.returncode == 0, done.stderr
    run.train(recipe, alone)
    for column in ("val_loss", "val_top1"):
        ours, theirs = (read_history(folder.metrics_file)[column] for folder in (alone, three))
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, err_msg=column)


@pytest.mark.long
@pytest.mark.parametrize(("size", "images"), [(24, 60), (32, 59)])
def test_a_machine_with_other_data_is_refused(
    tmp_path: Path, draw_dots, monkeypatch: pytest.MonkeyPatch, size: int, images: int
) -> None:
    other = tmp_path / "other"
    dots = draw_dots(tmp_path / "dots", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=images, side=32)
    prepare_image_folder(dots, name="dots", size=size, val_share=0.2, root=other / "data")
    monkeypatch.setenv("OTHER_HOME", str(other))
    folder = RunFolder(tmp_path / "run")
    script = [str(SCRIPT), written(recipe_of(), tmp_path), str(folder.path), "elsewhere"]
    done = subprocess.run([*TORCHRUN, "--nproc-per-node", "2", *script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("ResattnError: dots was prepared otherwise, or from other files, on ") == 1
    assert not folder.recipe_file.exists()


def test_restarts_do_not_go_on_with_a_run_that_was_there_before(resattn, tmp_path: Path) -> None:
    folder, recipe = RunFolder(tmp_path / "run"), recipe_of(steps=2)
    folder.path.mkdir()
    folder.recipe_file.write_text(recipe_of(steps=3).to_yaml())
    folder.environment_file.write_text("{}")
    several = ["--run-dir", folder.path, "--devices", "2", "--restarts", "2"]
    done = resattn("train", "--recipe", written(recipe, tmp_path), *several)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("holds a run already") == 1, done.stderr
    assert {path.name for path in folder.path.iterdir()} == {"recipe.yaml", "environment.json"}


def test_restarts_of_one_process_are_refused(resattn, tmp_path: Path) -> None:
    one = ["--run-dir", tmp_path / "run", "--restarts", "1"]
    done = resattn("train", "--recipe", written(recipe_of(), tmp_path), *one)
    assert done.returncode == 1
    assert "--restarts is for several processes" in done.stderr
    assert not (tmp_path / "run").exists()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ResattnError, match="--devices is 2, and this machine has 1 GPUs"):
        launch(["train"], devices=2)

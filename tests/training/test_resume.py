"""A run that was killed ends in the very weights it would have ended in, bit for bit."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from resattn.data.augmentation import Augmentation
from resattn.data.image_folder import prepare_image_folder
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.training.checkpoints import checkpoint_files, newest_readable
from resattn.training.history import read_rows
from resattn.training.recipe import Optimization, Recipe
from resattn.training.run import resume, train
from resattn.training.run_folder import RunFolder
from resattn.training.task import Classification

SCRIPT = Path(__file__).with_name("killed_run.py")


def recipe_of(data: str, **changes: object) -> Recipe:
    """Everything that has a state is on: Muon, averaging, dropout, mixing, growing images."""
    recipe = Recipe(
        data=data,
        model="resattn_mini",
        model_options={"drop_rate": 0.2, "width_scale": 0.25},
        steps=12,
        batch_size=12,
        start_scale=0.75,
        validations=3,
        averaging=0.3,
        augmentation=Augmentation(shift=2, mixup=0.2, cutmix=0.5, erase=0.2),
        precision="fp32",
    )
    return recipe.replace(**changes)


def rows_without_seconds(folder: RunFolder) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in read_rows(folder.metrics_file)
    ]


def assert_same_end(first: RunFolder, second: RunFolder) -> None:
    weights, others = load_file(first.weights_file), load_file(second.weights_file)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), f"{name} differs"
    assert rows_without_seconds(first) == rows_without_seconds(second)


@pytest.mark.parametrize(
    ("precision", "averaging", "accumulate"),
    [pytest.param("fp32", 0.0, 1, marks=pytest.mark.long), ("bf16", 0.3, 2)],
)
def test_killed_at_any_moment_and_resumed_is_bit_identical(
    dots: str, tmp_path: Path, precision: Literal["fp32", "bf16"], averaging: float, accumulate: int
) -> None:
    optimization = Optimization(accumulate=accumulate, clip=1.0)
    steps = 12 // accumulate
    recipe = recipe_of(dots, precision=precision, averaging=averaging, steps=steps, optimization=optimization)
    whole = RunFolder(tmp_path / "whole")
    train(recipe, whole)
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(recipe.to_yaml())
    moments = ("step", "checkpoint", "validation")
    command = [sys.executable, str(SCRIPT), str(recipe_file), str(tmp_path), *moments]
    # OpenBLAS, which numpy loads, has threads otherwise, with which the script cannot be copied.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.stdout.split() == [str(-signal.SIGKILL)] * len(moments), process.stderr
    for moment in moments:
        killed = RunFolder(tmp_path / moment)
        assert not killed.weights_file.exists()
        assert checkpoint_files(killed.checkpoints), "it was killed before the first checkpoint"
        resume(killed)
        assert_same_end(whole, killed)
        assert not list(killed.path.rglob("*.partial"))


def test_a_signal_saves_and_says_how_to_go_on(dots: str, resattn, tmp_path: Path) -> None:
    signum = signal.SIGINT  # and SIGTERM in tests/chaos
    recipe = recipe_of(dots, steps=40, optimization=Optimization(optimizer="adamw", lr=0.001))
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    train(recipe, whole)
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "resattn", "train"]
    process = subprocess.Popen(
        [*command, "--recipe", str(recipe_file), "--run-dir", str(stopped.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(read_rows(stopped.metrics_file)) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signum)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signum, told
    assert f"resattn train --resume --run-dir {stopped.path}" in told
    assert len(checkpoint_files(stopped.checkpoints)) == 1
    assert resattn("train", "--resume", "--run-dir", stopped.path).returncode == 0
    assert_same_end(whole, stopped)


@pytest.mark.parametrize(("steps", "validations"), [(4, 5), (4, 400)])
def test_a_run_with_more_validations_than_steps_has_checkpoints(
    dots: str, tmp_path: Path, steps: int, validations: int
) -> None:
    recipe = recipe_of(dots, steps=steps, validations=validations)
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train(recipe, whole, checkpoint_seconds=0)
    newest, before = checkpoint_files(whole.checkpoints)
    assert [newest.name, before.name] == ["step-00000003.ckpt", "step-00000001.ckpt"]
    shutil.copytree(whole.path, killed.path)
    for file in (killed.weights_file, killed.results_file):
        file.unlink()
    resume(killed)
    assert_same_end(whole, killed)


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut_short, pytest.param(one_bit_flipped, marks=pytest.mark.long)])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    dots: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    recipe = recipe_of(dots)
    whole, damaged = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "damaged")
    train(recipe, whole, checkpoint_seconds=0)
    shutil.copytree(whole.path, damaged.path)
    damaged.weights_file.unlink()
    damaged.results_file.unlink()
    newest, before = checkpoint_files(damaged.checkpoints)
    newest.write_bytes(damage(newest.read_bytes()))
    resume(damaged)
    told = capsys.readouterr().err
    assert f"checkpoint {newest} is damaged" in told
    assert f"resuming from {before}" in told
    assert_same_end(whole, damaged)


def test_damaged_checkpoints_do_not_take_the_place_of_later_ones(
    dots: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, damaged = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "damaged")
    train(recipe_of(dots), whole, checkpoint_seconds=0)
    shutil.copytree(whole.path, damaged.path)
    damaged.weights_file.unlink()
    damaged.results_file.unlink()
    spoilt = checkpoint_files(damaged.checkpoints)
    for file in spoilt:
        file.write_bytes(cut_short(file.read_bytes()))
    found, notes = newest_readable(damaged.checkpoints)
    assert found is None
    assert ["the run begins anew" in note for note in notes] == [False, True]
    resume(damaged, checkpoint_seconds=0)
    assert newest_readable(damaged.checkpoints) == (spoilt[0], [])
    assert_same_end(whole, damaged)


def test_a_second_process_is_refused_while_one_trains(dots: str, tmp_path: Path) -> None:
    recipe = recipe_of(dots, steps=5000)
    folder = RunFolder(tmp_path / "run")
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "resattn", "train", "--recipe", str(recipe_file)]
    first = subprocess.Popen(
        [*command, "--run-dir", str(folder.path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not read_rows(folder.metrics_file) and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        rows = read_rows(folder.metrics_file)
        assert rows
        with pytest.raises(ResattnError, match="another process is training in"):
            resume(folder)
        assert read_rows(folder.metrics_file)[: len(rows)] == rows
    finally:
        first.kill()
        first.wait()
    with folder.exclusively():  # the system let go of the killed process's lock
        pass


def test_data_that_changed_under_a_run_are_refused(dots: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(recipe_of(dots), folder)
    folder.results_file.unlink()
    images = Path(str(open_split(dots, "train").images.filename))
    whole = images.read_bytes()
    images.write_bytes(one_bit_flipped(whole))
    try:
        with pytest.raises(ResattnError, match="has changed since it was written") as caught:
            resume(folder)
        assert "prepare it again" in caught.value.mend
    finally:
        images.write_bytes(whole)
    resume(folder)


def test_images_of_another_size_are_refused(dots: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(recipe_of(dots), folder)
    folder.results_file.unlink()
    prepare_image_folder(tmp_path / "dots", name=dots, size=24, val_share=0.2)
    with pytest.raises(ResattnError, match="dots have 24 pixels a side, and had 32 when") as caught:
        resume(folder)
    assert "--size 32" in caught.value.mend
    environment = folder.environment()  # as an earlier version wrote it, which did not tell the sizes apart
    del environment["data_size"]
    folder.environment_file.write_text(json.dumps(environment))
    prepare_image_folder(tmp_path / "dots", name=dots, size=32, val_share=0.2)
    resume(folder)


def test_where_a_run_went_on_is_written_down_once(
    dots: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, original, stop = RunFolder(tmp_path / "run"), Classification.training_step, [2]

    def training_step(self, batch, batch_idx):
        if batch_idx == stop[0]:
            raise InterruptedError
        return original(self, batch, batch_idx)

    def go_on(commit: str, until: int) -> None:
        monkeypatch.setattr("resattn.training.run_folder._commit", lambda: commit)
        stop[0] = until
        with pytest.raises(InterruptedError) if until < 8 else contextlib.nullcontext():
            resume(folder, checkpoint_seconds=0)

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(InterruptedError):
        train(recipe_of(dots, steps=8), folder, checkpoint_seconds=0)
    began = folder.environment()
    for commit, until in ((began["commit"], 3), ("another", 4), ("another", 5), (began["commit"], 8)):
        go_on(commit, until)
    folder.results_file.unlink()
    go_on("of the evaluation alone", 8)
    now = folder.environment()
    assert [sitting["commit"] for sitting in now.pop("sittings")] == ["another", began["commit"]]
    assert now == began


def test_what_cannot_be_resumed_is_said(dots: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ResattnError, match="holds no run"):
        resume(folder)
    train(recipe_of(dots), folder)
    with pytest.raises(ResattnError, match="is finished"):
        resume(folder)
    with pytest.raises(ResattnError, match="holds a run already"):
        train(recipe_of(dots), folder)
    folder.recipe_file.unlink()
    with pytest.raises(
        ResattnError, match=r"weights\.safetensors is of another run, whose recipe\.yaml is gone"
    ):
        train(recipe_of(dots), folder)
    other = RunFolder(tmp_path / "other")
    other.checkpoints.mkdir(parents=True)
    (other.checkpoints / "step-00000001.ckpt").touch()
    with pytest.raises(ResattnError, match=r"step-.*\.ckpt is of another run"):
        train(recipe_of(dots), other)


def test_a_checkpoint_that_cannot_be_read_now_is_left_where_it_is(tmp_path: Path) -> None:
    unreadable = tmp_path / "step-00000001.ckpt"
    unreadable.mkdir()
    unreadable.with_suffix(".sha256").write_text("0" * 64)
    with pytest.raises(ResattnError, match=r"step-00000001\.ckpt cannot be read: Is a directory"):
        newest_readable(tmp_path)
    assert unreadable.exists()

"""Studies with real runs: killed, stopped, shared, pruned, diverged, failed, and not begun."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial
from PIL import Image
from safetensors import SafetensorError
from toy_study import SEARCH, TINY, plan_of

import resattn.experiments
from resattn import cli_experiments
from resattn.errors import CannotWrite, ResattnError
from resattn.experiments import study_storage
from resattn.experiments.study_storage import open_study
from resattn.experiments.tuning import tune
from resattn.tables import print_study
from resattn.training.checkpoints import checkpoint_files
from resattn.training.history import read_rows
from resattn.training.recipe import Recipe
from resattn.training.run import resume, train
from resattn.training.run_folder import RunFolder
from resattn.training.task import Classification

KILLED = Path(__file__).with_name("killed_study.py")
OPTIONS = [
    "--data=dots", "--steps=5", "--batch-size=8", "--validations=2", "--start-scale=1", "--precision=fp32",
    "--optimization.optimizer=adamw", "--optimization.lr=0.001", *(f"--search={text}" for text in SEARCH),
]  # fmt: skip


def command(
    *arguments: str, script: Sequence[str] = ("-m", "resattn_launcher"), threads: int = 1
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip


def table() -> list[dict[str, str]]:
    with Path("runs/tune/s/trials.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "minutes"} for row in csv.DictReader(file)
        ]


def test_a_study_killed_in_a_trial_goes_on_in_its_run(dots: str, capsys: pytest.CaptureFixture[str]) -> None:
    # With the threads this process has: a sum of other parts is another sum.
    threads = torch.get_num_threads()
    killed = command("tune", "s", "--trials", "2", *OPTIONS, script=[str(KILLED), "1"], threads=threads)
    _, told = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, told
    with Path("runs/tune/s/journal.log").open("a") as journal:
        journal.write('{"op_code": 4, "wor')  # killed while it wrote
    plan = plan_of(2)
    report = tune(plan)
    assert "resuming from runs/tune/s/trial-000/checkpoints/step-00000004.ckpt" in capsys.readouterr().err
    assert [row.state for row in report.trials] == ["finished", "finished"]
    whole = RunFolder(Path("whole"))
    train(plan.space.recipe(report.trials[0].values), whole)
    rows = [
        [{**row, "seconds": ""} for row in read_rows(folder / "metrics.csv")]
        for folder in (whole.path, report.folder / "trial-000")
    ]
    assert rows[0] == rows[1]
    assert report.best_recipe is not None
    best = Recipe.from_yaml(report.best_recipe)
    assert best == plan.space.recipe(report.best[0].values).replace(validate_on="val")
    with Image.open(report.folder / "study.png") as image:
        assert image.size[0] == 1500


def test_a_signal_stops_the_command_with_the_run_saved_and_the_study_goes_on(
    dots: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tune", "s", "--trials", "1", "--storage", "sqlite:///study.db", *OPTIONS]
    arguments[arguments.index("--steps=5")] = "--steps=16"
    process = command(*arguments)
    metrics = Path("runs/tune/s/trial-000/metrics.csv")
    deadline = time.monotonic() + 120
    while len(read_rows(metrics)) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, told
    assert "s: 1 unfinished" in printed
    assert f"stopped by SIGTERM; go on with: resattn {' '.join(arguments)}" in told
    assert len(checkpoint_files(metrics.parent / "checkpoints")) == 1
    report = tune(plan_of(1, recipe=TINY.replace(steps=16), storage="sqlite:///study.db"))
    print_study(report)
    printed, told = capsys.readouterr()
    assert "resuming from" in told
    assert "1 of 1 done" in told
    assert "s: 1 finished" in printed
    assert "The recipe's own values: trial-000, held-out top-1" in printed
    assert "resattn train --recipe runs/tune/s/best.yaml" in printed


def test_two_processes_share_a_study(dots: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = command("tune", "s", "--trials", "3", *OPTIONS)
    deadline = time.monotonic() + 120
    while not Path("runs/tune/s/trial-000/recipe.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    report = tune(plan_of(3))
    told = [other.communicate(timeout=120)[1], capsys.readouterr().err]
    assert other.returncode == 0, told
    assert [row["state"] for row in table()] == ["finished"] * 3
    assert len({row["label_smoothing"] for row in table()}) == 3
    own = table()[0]
    assert (own["label_smoothing"], own["batch_size"]) == ("0.1", "8"), "the recipe's own values come first"
    assert report.own == report.trials[0]
    for number in range(3):
        assert sum(f"trial-{number:03d}: held-out top-1" in text for text in told) == 1
    assert all("held-out top-1" in text for text in told)


def test_a_trial_that_falls_behind_is_ended_and_can_be_gone_on_with(
    dots: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(5)
    values = {"label_smoothing": 0.1, "batch_size": 8}
    with open_study(plan) as study:
        for _ in range(4):  # four trials that were always right
            study.optuna_study.add_trial(
                create_trial(
                    params=values, distributions=study_storage._distributions(plan.space), value=1.0,
                    intermediate_values={1: 1.01, 2: 1.01},
                )
            )  # fmt: skip
    report = tune(plan)
    assert [row.state for row in report.trials] == ["finished"] * 4 + ["pruned"]
    assert "trial-004: fell behind, ended early at" in capsys.readouterr().err
    folder = RunFolder(report.folder / "trial-004")
    assert [row["step"] for row in read_rows(folder.metrics_file)][-1] == "4"  # validated after 3 of 5
    assert report.trials[4].curve[0] == [3.0]
    assert not folder.results_file.exists()
    resume(folder)
    assert read_rows(folder.metrics_file)[-1]["step"] == "5"


def test_trials_of_a_time_make_as_many_steps_however_busy_the_machine_is(
    dots: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Seconds a step of the study's recipe and of each trial: the machine is half as fast from the second trial on.
    turns = iter([[[0.01, 0.01]], [[0.02, 0.02]], [[0.02, 0.04]]])
    monkeypatch.setattr(
        "resattn.experiments.steps_in_time.measure_in_turns", lambda probes, budget: next(turns)
    )
    report = tune(plan_of(3, recipe=TINY.replace(steps=None, time="0.06s"), search=["label_smoothing=0:0.3"]))
    assert [row.steps for row in report.trials] == [6, 6, 3]
    assert "trials are judged on 8 held-out images, of which one is 12.5 points" in capsys.readouterr().err
    assert report.best_recipe is not None
    best = Recipe.from_yaml(report.best_recipe)
    assert (best.time, best.steps) == ("0.06s", None)


def test_a_run_is_not_judged_before_its_middle(dots: str) -> None:
    plan = plan_of(5, recipe=TINY.replace(steps=40, validations=4), search=["label_smoothing=0:0.3"])
    ahead = create_trial(
        params={"label_smoothing": 0.1}, distributions=study_storage._distributions(plan.space), value=1.0,
        intermediate_values={1: 1.01, 2: 0.0, 3: 1.01},
    )  # fmt: skip
    with open_study(plan) as study:
        for _ in range(4):
            study.optuna_study.add_trial(ahead)
    trial = tune(plan).trials[4]
    assert (trial.state, len(trial.curve[0])) == ("pruned", 3)


def test_fields_that_act_late_are_told_where_trials_are_ended_early(
    dots: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "note: averaging acts late in a run"
    for pruner, search, expected in (
        ("median", "averaging=0.01,0.1", True),
        ("none", "averaging=0.01,0.1", False),
        ("median", "label_smoothing=0:0.3", False),
    ):
        tune(plan_of(1, pruner=pruner, search=[search], time_limit="0.0000001s"))
        assert (told in capsys.readouterr().err) == expected
        shutil.rmtree("runs")


def test_a_loss_that_is_not_finite_ends_the_trial_and_not_the_study(
    dots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Classification.training_step

    def training_step(self, batch, batch_idx):
        return original(self, batch._replace(images=batch.images * float("inf")), batch_idx)

    monkeypatch.setattr(Classification, "training_step", training_step)
    report = tune(plan_of(4))
    assert report.summary == "4 diverged"
    assert report.best_recipe is None
    assert "the loss became nan at step 1" in report.trials[0].note
    assert (report.folder / "study.png").is_file()


def test_failures_in_a_row_end_the_study_with_the_reason(dots: str) -> None:
    plan = plan_of(9, search=["augmentation.shift=int:16:40"])
    with pytest.raises(ResattnError, match="3 trials in a row failed; the last: augmentation.shift is"):
        tune(plan)
    assert [row["state"] for row in table()] == ["failed"] * 3
    assert "the images of dots are 16 pixels" in table()[0]["note"]
    assert (plan.folder / "study.png").is_file()


def test_a_full_disk_costs_no_trial(dots: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(2)
    with monkeypatch.context() as full:

        def refuse(*_: object, **__: object) -> None:  # how safetensors tells of a full disk
            raise SafetensorError("Error while serializing: I/O error: No space left on device")

        full.setattr("resattn.models.weights.save_file", refuse)
        with pytest.raises(CannotWrite):
            tune(plan)
    assert [row["state"] for row in table()] == ["unfinished"]
    tune(plan)
    assert [row["state"] for row in table()] == ["finished"] * 2


def test_values_that_were_tried_are_not_trained_again(
    dots: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(3, search=["batch_size=6,8"])
    with open_study(plan) as study:
        for size, value in ((6, 0.25), (8, 0.5)):
            study.optuna_study.add_trial(
                create_trial(
                    params={"batch_size": size}, value=value,
                    distributions={"batch_size": CategoricalDistribution((6, 8))},
                )
            )  # fmt: skip
    report = tune(plan)
    assert [row.state for row in report.trials] == ["finished", "finished", "repeats"]
    twin = report.trials[2].values["batch_size"] == 8
    assert report.trials[2].top1 == (0.5 if twin else 0.25)
    assert f"trial-002: the values of trial-00{int(twin)} again" in capsys.readouterr().err


def test_data_may_be_searched_where_those_of_the_recipe_are_not_there(dots: str) -> None:
    recipe = TINY.replace(data="nowhere", steps=None, time="0.2s")
    report = tune(plan_of(1, recipe=recipe, search=["data=dots,shapes"]))
    assert [row.state for row in report.trials] == ["finished"]


def test_what_is_missing_is_said_before_anything_is_written(dots: str) -> None:
    for plan, what in (
        (plan_of(1, recipe=TINY.replace(data="dts")), "dts"),
        (plan_of(1, search=["model=resattn_mini,resattn_min"]), "resattn_min"),
        (plan_of(1, search=["model_options.mask_with=16,32"]), "mask_with"),
    ):
        with pytest.raises(ResattnError, match=what):
            tune(plan)
        assert not Path("runs").exists()


def test_a_time_limit_begins_no_further_trial(dots: str) -> None:
    assert tune(plan_of(1, time_limit="0.0000001s")).trials == []


def test_the_command_asks_for_what_is_not_installed(dots: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tuning", "study_report", "study_storage", "trial_record"):
        monkeypatch.delitem(sys.modules, f"resattn.experiments.{name}")
    monkeypatch.delattr(resattn.experiments, "tuning")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ResattnError, match="optuna is not installed") as caught:
        cli_experiments.tune("s", search=SEARCH, trials=1)
    assert caught.value.mend == "pip install 'resattn[tune]'"

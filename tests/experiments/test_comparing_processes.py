"""Comparisons that are killed, stopped by a signal, or shared by two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from toy_comparison import POOL, TOY, states, toy, without_length

from resattn.data.locking import locked
from resattn.errors import ResattnError
from resattn.experiments.comparing import compare
from resattn.experiments.planned_runs import planned_runs
from resattn.experiments.publishing import publish
from resattn.training.history import read_rows
from resattn.training.run import train
from resattn.training.run_folder import RunFolder
from resattn_launcher import app

KILLED = Path(__file__).with_name("killed_study.py")


def command(
    *arguments: str,
    script: Sequence[str] = ("-m", "resattn_launcher"),
    threads: int = 1,
    comparison: str = "toy.yaml",
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *script, "compare", comparison, *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip


def test_a_comparison_killed_in_a_run_goes_on_in_it_and_repeats_none(
    dots: str, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = toy()
    # With the threads this process has: a sum of other parts is another sum.
    killed = command(script=[str(KILLED), "2"], threads=torch.get_num_threads())
    _, told = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, told
    first, second = planned_runs(comparison)[:2]
    finished = first.folder.results_file.stat().st_mtime_ns
    assert not second.done
    report = compare(comparison)
    assert first.folder.results_file.stat().st_mtime_ns == finished
    assert states(report) == [
        ("plain", 0, "finished"), ("masks", 0, "finished"), ("plain", 1, "finished"), ("masks", 1, "finished"),
    ]  # fmt: skip
    told = capsys.readouterr().err
    assert f"resuming from {second.folder.path}/checkpoints/step-00000004.ckpt" in told
    assert "run 4 of 4, masks, seed 1: top-1" in told and str(first.folder.path) not in told
    whole = RunFolder(Path("whole"))
    train(second.recipe, whole)
    for name in ("step", "train_loss", "val_loss", "val_top1"):
        assert [row[name] for row in read_rows(whole.metrics_file)] == [
            row[name] for row in read_rows(second.folder.metrics_file)
        ]
    written = {path: path.stat().st_mtime_ns for path in POOL.glob("*/results.json")}
    assert len(written) == 4
    assert states(compare(comparison)) == states(report)
    assert {path: path.stat().st_mtime_ns for path in POOL.glob("*/results.json")} == written
    more = compare(toy(seeds=3))
    assert len(more.runs) == 6 and more.arms[0].runs == 3
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_the_study_killed_half_way_goes_on_and_repeats_no_run(
    dots: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = (f"data={dots}", "steps=6", "batch_size=4", "validations=2", "precision=fp32")
    options = ["--seeds", "1", "--arms", "inception", *(f"--set={field}" for field in fields)]
    killed = command(*options, script=[str(KILLED), "2"], comparison="study")
    _, told = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, told
    (finished,) = POOL.glob("*/results.json")
    when = finished.stat().st_mtime_ns
    app(["compare", "study", *options])
    told = capsys.readouterr().err
    assert "run 2 of 2, inception, seed 0: runs/" in told and "resuming from" in told
    assert finished.stat().st_mtime_ns == when and "run 1 of 2" not in told
    assert len(list(POOL.glob("*/results.json"))) == 2


def test_a_signal_stops_the_command_with_the_run_saved(dots: str) -> None:
    toy(fields={**TOY["fields"], "steps": 40})
    process = command()
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(len(read_rows(path)) > 3 for path in POOL.glob("*/metrics.csv")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, told
    assert "3 missing, 1 unfinished" in printed
    assert "4 of 4 runs are not finished" in printed
    assert "stopped by SIGTERM; go on with: resattn compare toy.yaml" in told
    assert len(list(POOL.glob("*/checkpoints/*.ckpt"))) == 1


def test_two_processes_divide_the_runs(dots: str, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = toy(fields={**TOY["fields"], "steps": 20})
    other = command()
    deadline = time.monotonic() + 120
    while not any(POOL.glob("*/recipe.yaml")) and time.monotonic() < deadline:
        time.sleep(0.02)
    compare(comparison)
    told = [other.communicate(timeout=120)[1], capsys.readouterr().err]
    assert other.returncode == 0, told
    for arm in ("plain", "masks"):
        for seed in (0, 1):
            assert sum(f"{arm}, seed {seed}: top-1" in text for text in told) == 1
    assert all(": top-1" in text for text in told)
    content = json.loads(Path("runs/compare/toy/comparison.json").read_text())
    assert [run["state"] for run in content["runs"]] == ["finished"] * 4


def test_what_is_not_finished_is_not_published(dots: str) -> None:
    report = compare(toy())
    publish(report.folder, Path("docs"))
    conclusion = Path("docs/results/toy/conclusion.md")
    conclusion.write_text("They do not say.\n")
    comparison = toy(seeds=3)
    other = planned_runs(comparison)[-1]
    other.folder.path.mkdir()
    told = r"1 of 6 runs are not finished \(masks, seed 2\): nothing was published"
    with locked(other.folder.path), pytest.raises(ResattnError, match=told):
        app(["compare", "toy.yaml", "--publish", "docs"])
    assert conclusion.exists() and "| 2 | 5 |" in Path("docs/results.md").read_text()
    app(["compare", "toy.yaml", "--publish", "docs"])
    assert not conclusion.exists() and "| 3 | 5 |" in Path("docs/results.md").read_text()


def test_a_signal_while_steps_are_measured_leaves_the_report_alone(
    dots: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = compare(toy(seeds=1))
    publish(report.folder, Path("docs"))
    before = {path: path.read_bytes() for path in [*report.folder.iterdir(), *Path("docs").rglob("*.*")]}

    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("resattn.experiments.steps_in_time.measure_in_turns", interrupted)
    toy(fields=without_length(), equal="time", time="5s")
    with pytest.raises(SystemExit) as left:
        app(["compare", "toy.yaml", "--publish", "docs"])
    assert left.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; go on with: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before

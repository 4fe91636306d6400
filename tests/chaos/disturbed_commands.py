"""The commands that are disturbed: what a user types, what they type again, and what has to be there in the end."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from resattn.data.image_folder import prepare_image_folder
from resattn.training.history import read_rows
from resattn.training.recipe import Recipe
from resattn.training.run import train
from resattn.training.run_folder import RunFolder

RECIPE: dict[str, Any] = {
    "data": "dots",
    "model": "resattn_mini",
    "model_options": {"width_scale": 0.125, "drop_rate": 0.1},
    "steps": 40,
    "batch_size": 16,
    "validations": 3,
    "averaging": 0.2,
    "precision": "fp32",
}
COMPARISON: dict[str, Any] = {
    "question": "Do masks help?",
    "fields": {**RECIPE, "steps": 10, "model": "resattn_mini_plain", "validations": 1},
    "control": "plain",
    "arms": {"masks": {"model": "resattn_mini"}},
    "equal": "steps",
    "seeds": 1,
}
STUDY = [
    "tune",
    "study",
    "--recipe",
    "trial.yaml",
    "--trials",
    "2",
    "--search",
    "optimization.lr=0.01,0.02,0.04",
]


@dataclass(frozen=True)
class Place:
    """A folder to work in, with a home of its own."""

    path: Path

    def start(
        self, arguments: Sequence[str], *, within: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """`resattn` with these arguments, in a process of its own; the command `within`, if any, starts it."""
        return subprocess.Popen(
            [*within, sys.executable, "-m", "resattn", *arguments],
            cwd=self.path,
            env=os.environ
            | {"RESATTN_HOME": str(self.path / "home"), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: Sequence[str], *, within: Sequence[str] = (), **environment: str) -> None:
        """The same to its end, which has to be a good one."""
        process = self.start(arguments, within=within, **environment)
        out, told = process.communicate(timeout=300)
        assert process.returncode == 0, f"{arguments}: {out}\n{told}"

    def leftovers(self) -> list[str]:
        """Files and folders that are there only while something is written."""
        marks = (".partial", ".preparing-", ".job")
        found = [str(path.relative_to(self.path)) for path in self.path.rglob("*")]
        return sorted(name for name in found if any(mark in Path(name).name for mark in marks))


@dataclass(frozen=True)
class Command:
    """`first` is what a user types, `again` what they type after it was cut off, nothing where it had come to its end.

    `outcome` is what has to be the same in the end as if nothing had happened, `finished` what may not be touched any
    more once it is there, by file.
    """

    first: Sequence[str]
    outcome: Callable[[Path], object]
    finished: Callable[[Path], Mapping[str, bytes]] = lambda place: {}
    again: Callable[[Path], Sequence[str] | None] | None = None


def weights(run: Path) -> dict[str, str]:
    """A digest of every tensor of a run."""
    tensors = load_file(run / "weights.safetensors")
    return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}


def rows(run: Path) -> list[dict[str, str]]:
    """The history of a run, without the time it took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(run / "metrics.csv")]


def results(place: Path) -> dict[str, bytes]:
    """What finished runs say."""
    return {str(file.relative_to(place)): file.read_bytes() for file in place.glob("runs/**/results.json")}


def resume_training(place: Path) -> Sequence[str] | None:
    run = place / "runs" / "one"
    if (run / "results.json").exists():
        return None
    return ["train", "--resume", "--run-dir", "runs/one"] if (run / "recipe.yaml").exists() else TRAIN


def compared(place: Path) -> object:
    runs = sorted((place / "runs" / "compare" / "runs").glob("*/weights.safetensors"))
    assert (place / "runs" / "compare" / "toy" / "report.html").exists()
    return {file.parent.name: (weights(file.parent), rows(file.parent)) for file in runs}


def tuned(place: Path) -> object:
    folder = place / "runs" / "tune" / "study"
    assert yaml.safe_load((folder / "best.yaml").read_text())["data"] == "dots"
    with (folder / "trials.csv").open(newline="") as file:
        trials = [{name: row[name] for name in ("trial", "state", "top1")} for row in csv.DictReader(file)]
    assert len(trials) == 2, trials
    return trials


def prepared(place: Path) -> object:
    folder = place / "home" / "data" / "again"
    described = json.loads((folder / "dataset.json").read_text())
    arrays = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.npy")}
    return described["class_ids"], arrays


TRAIN = ["train", "--recipe", "recipe.yaml", "--run-dir", "runs/one", "--save-every", "0.1s"]
COMMANDS: dict[str, Command] = {
    "prepare": Command(["prepare", "folder", "dots", "--name", "again", "--size", "48"], prepared),
    "train": Command(
        TRAIN, lambda place: (weights(place / "runs/one"), rows(place / "runs/one")), again=resume_training
    ),
    "compare": Command(["compare", "toy.yaml"], compared, results),
    "tune": Command(STUDY, tuned, results),
    "export": Command(
        ["export", "trained", "--out", "network.onnx"],
        lambda place: hashlib.sha256((place / "network.onnx").read_bytes()).hexdigest(),
    ),
}


def make_place(path: Path, draw_dots: Callable[..., Path]) -> Place:
    """Draw, prepare and train what the commands need."""
    place = Place(path / "prototype")
    draw_dots(place.path / "dots", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=60, side=32)
    for name, content in (
        ("recipe.yaml", RECIPE),
        ("trial.yaml", {**RECIPE, "steps": 10}),
        ("toy.yaml", COMPARISON),
    ):
        (place.path / name).write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESATTN_HOME", str(place.path / "home"))
        prepare_image_folder(place.path / "dots", name="dots", size=32)
        train(Recipe.from_yaml(place.path / "trial.yaml"), RunFolder(place.path / "trained"))
    return place

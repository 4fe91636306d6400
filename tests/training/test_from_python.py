"""`resattn.train`: the run that the command makes, from Python."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import resattn
from resattn.errors import ResattnError
from resattn.training.from_python import full_recipe
from resattn.training.recipe import Recipe, find_recipe
from resattn.training.run_folder import RunFolder
from resattn_launcher import app

SHORT = {"steps": 4, "batch_size": 16, "validations": 1, "precision": "fp32"}


def test_python_and_the_command_train_the_same_weights(
    trained_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    run = resattn.train(data="dots", start_from=trained_dots.run, run_dir="called", seed=3, **SHORT)
    options = "--steps 4 --batch-size 16 --validations 1 --precision fp32"
    app(f"train --data dots --from {trained_dots.run} --run-dir typed --seed 3 {options}")

    called, typed = RunFolder(Path("called")), RunFolder(Path("typed"))
    assert run.folder == called.path
    assert called.recipe_file.read_text() == typed.recipe_file.read_text()
    # The head of the file has the seconds it took.
    assert called.weights_file.read_bytes()[-1000:] == typed.weights_file.read_bytes()[-1000:]
    assert json.loads(typed.results_file.read_text())["top1"] == run.results.top1
    assert resattn.load(run.folder).pretrained_cfg["label_names"] == ("blue", "red")


def test_a_folder_of_images_may_be_a_path_and_the_run_is_named_after_it(
    resattn_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_dots
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_dots(tmp_path / "pairs", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=20, side=16)

    run = resattn.train(data=Path("pairs"), **SHORT)

    assert run.folder == Path("runs/pairs-64-resattn_mini-1")
    assert run.results.images == 4


def test_what_is_said_has_the_last_word_over_the_recipe() -> None:
    shipped = Recipe.from_yaml(find_recipe("laptop-150m"))
    fields = {
        "steps": 9,
        "time": None,
        "optimization": {"lr": np.float64(0.01)},
        "model_options": {"drop_rate": 0.1, "masked_stages": (1, 3)},
        "seed": np.int64(2),
    }

    chosen = full_recipe("laptop-150m", fields)

    assert chosen == shipped.replace(
        steps=9,
        time=None,
        optimization=replace(shipped.optimization, lr=0.01),
        model_options={"stem_width": 64, "stem_units": 1, "drop_rate": 0.1, "masked_stages": [1, 3]},
        seed=2,
    )
    assert Recipe.from_mapping(yaml.safe_load(chosen.to_yaml()), source="") == chosen


def test_none_says_nothing() -> None:
    assert full_recipe("laptop-20m", {"steps": None, "model": None}).time == "20m"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"batchsize": 8}, "batch_size"),
        ({"optimization": {"learning_rate": 1}}, "optimization.learning_rate"),
        ({"start_from": True}, "start_from"),
    ],
)
def test_a_field_that_is_none_or_wrong_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ResattnError) as caught:
        resattn.train(**fields)
    assert named in str(caught.value)


def test_another_thread_is_refused_before_anything_is_written(
    resattn_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    caught: list[str] = []

    def call() -> None:
        try:
            resattn.train(**SHORT)
        except ResattnError as error:
            caught.append(error.what)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert caught == ["resattn.train runs in the main thread, where Ctrl-C can be taken"]
    assert not list(tmp_path.iterdir())

"""`resattn evaluate` beyond accuracy: where a network looks, and what it bears."""

import json
from typing import Any

import pytest

from resattn.data.shapes import prepare_shapes
from resattn.errors import ResattnError
from resattn.training.recipe import Recipe
from resattn.training.run import train
from resattn.training.run_folder import RunFolder
from resattn_launcher import app


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    app([str(argument) for argument in ("evaluate", *arguments, "--json")])
    return json.loads(capsys.readouterr().out)


def test_corruptions_are_measured_into_the_run(trained_dots, capsys: pytest.CaptureFixture[str]) -> None:
    docs = trained_dots.run / "docs"
    result = told(capsys, trained_dots.run, "--corruptions", "--limit", 6, "--publish", docs)
    page = (docs / "results.md").read_text()
    assert f"Mean corruption accuracy **{result['mean_corruption_accuracy']:.2%}**" in page
    assert "| gaussian noise | noise |" in page
    assert [path.name for path in (docs / "results").glob("*/*")] == ["corruptions.json"]
    assert 0 <= result["mean_corruption_accuracy"] <= 1
    folder = trained_dots.run / "corruptions-dots-val"
    written = json.loads((folder / "corruptions.json").read_text())
    assert written["clean_top1"] == result["clean_top1"]
    assert {path.name for path in folder.iterdir()} == {
        f"corruptions.{kind}" for kind in ("json", "csv", "png")
    }


def test_localization_is_measured_where_there_are_boxes(
    trained_dots, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ResattnError, match="has no boxes"):
        told(capsys, trained_dots.run, "--localization")
    monkeypatch.setenv("RESATTN_HOME", str(tmp_path / "home"))
    prepare_shapes(train_images=40, val_images=20)
    folder = RunFolder(tmp_path / "run")
    options: Any = {"mask_width": 8}
    train(Recipe(data="shapes", model_options=options, steps=2, batch_size=8, precision="fp32"), folder)
    result = told(capsys, folder.path, "--localization", "--limit", 10, "--publish", tmp_path / "docs")
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "| combined | masks |" in page and "| centred blob | baseline |" in page
    assert [score["name"] for score in result["scores"]][:3] == ["uniform map", "centred blob", "Grad-CAM"]
    assert (folder.path / "localization-shapes-val" / "localization.png").is_file()


def test_a_limit_without_either_is_refused(trained_dots) -> None:
    with pytest.raises(ResattnError, match="--limit is for --localization and --corruptions"):
        app(["evaluate", str(trained_dots.run), "--limit", "3"])

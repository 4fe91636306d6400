"""`resattn evaluate` beyond accuracy: where a network looks, and what it bears."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resattn.data.packed import open_split
from resattn.data.shapes import prepare_shapes
from resattn.errors import ResattnError
from resattn.evaluation.submission import write_submission
from resattn.experiments.publishing import publish_measurement
from resattn.models.loading import load
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
    (published,) = (docs / "results").glob("*/*.png")
    assert {path.name for path in published.parent.iterdir()} == {"corruptions.json", "corruptions.png"}
    with (
        Image.open(published) as ours,
        Image.open(trained_dots.run / "corruptions-dots-val-limit-6/corruptions.png") as whole,
    ):
        assert ours.width < whole.width  # without the column of images
    assert 0 <= result["mean_corruption_accuracy"] <= 1
    folder = trained_dots.run / "corruptions-dots-val-limit-6"
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
    assert (folder.path / "localization-shapes-val-limit-10" / "localization.png").is_file()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--limit", "3"], "--limit is for --localization and --corruptions"),
        (["--localization", "--corruptions"], "--localization and --corruptions are different measurements"),
        (["--localization", "--flip"], "--flip has no meaning with --localization"),
        (["--localization", "--split", "train"], "thresholds are tuned on the boxes of train"),
        (["--localization", "--split", "held-out"], "thresholds are tuned on the boxes of train"),
        (["--submission", "x.txt", "--json"], "--json has no meaning with --submission"),
        (["--submission", "x.txt", "--limit", "3"], "--limit has no meaning with --submission"),
    ],
)
def test_an_option_that_would_be_passed_over_is_refused(trained_dots, options: list[str], told: str) -> None:
    with pytest.raises(ResattnError, match=told):
        app(["evaluate", str(trained_dots.run), *options])


def test_a_submission_may_be_of_any_split_and_of_both_views(trained_dots, tmp_path: Path) -> None:
    for name, options in (("one", []), ("both", ["--flip", "--batch-size", "5"])):
        app(
            [
                "evaluate",
                str(trained_dots.run),
                "--split",
                "val",
                "--submission",
                f"{tmp_path}/{name}",
                *options,
            ]
        )
    split = open_split("dots", "val")
    network = load(trained_dots.run)
    for name, flip in (("one", "none"), ("both", "average")):
        write_submission(network, split, tmp_path / "expected", flip=flip, progress=False)  # type: ignore[arg-type]
        assert (tmp_path / name).read_text() == (tmp_path / "expected").read_text()


def test_what_is_published_says_by_which_command(
    trained_dots, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for source in (trained_dots.run, "resattn_mini"):
        told(capsys, source, "--corruptions", "--limit", 4, "--publish", tmp_path)
    again = ["--split", "val", "--batch-size", 3]  # the same measurement in other words: it takes its place
    told(capsys, "resattn_mini", "--corruptions", "--limit", 4, *again, "--publish", tmp_path)
    other = ["--split", "train", "--precision", "bf16"]
    told(capsys, trained_dots.run, "--corruptions", "--limit", 4, *other, "--publish", tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert (
        f"`resattn evaluate {trained_dots.run} --corruptions --split=train --precision=bf16 --limit=4`"
        in page
    )
    assert "bf16 on cpu." in page and "fp32 on cpu." in page
    drawings = re.findall(r"!\[corruptions\]\((.*)\)", page)
    assert len(drawings) == 3 and all((tmp_path / drawing).is_file() for drawing in drawings)
    assert f"`resattn evaluate {trained_dots.run} --corruptions --limit=4`" in page
    assert "`resattn evaluate resattn_mini --corruptions --split=val --batch-size=3 --limit=4`" in page
    assert "## What does resattn_mini bear, on dots?" in page


def test_a_folder_of_images_is_measured_whole_and_the_one_trained_on_where_it_was_held_back(
    trained_dots, draw_dots, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    holdout = draw_dots(tmp_path / "holdout", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=5, side=30)
    result = told(capsys, trained_dots.run, "--data", f"{holdout}/")
    assert (result["data"], result["split"], result["images"], result["classes"]) == ("holdout", "all", 10, 2)
    assert (trained_dots.run / "evaluation-holdout-all" / "per_class.csv").is_file()
    own = told(capsys, trained_dots.run, "--data", f"folder:{trained_dots.photo.parents[1]}")
    expected = told(capsys, trained_dots.run)
    assert {**own, "seconds": 0} == {**expected, "seconds": 0}
    for options, problem in (
        (["--split", "val"], "is no prepared data set and has no splits"),
        (["--localization"], "--localization needs boxes, and holdout has none"),
    ):
        with pytest.raises(ResattnError, match=problem):
            told(capsys, trained_dots.run, "--data", f"folder:{holdout}", *options)
    with pytest.raises(
        ResattnError, match="is a folder, and the name of a prepared data set is wanted"
    ) as refused:
        open_split(str(holdout))
    assert f"folder:{holdout}" in refused.value.mend


def test_images_that_the_network_may_have_been_trained_on_are_told(
    trained_dots, draw_dots, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = shutil.copytree(trained_dots.photo.parents[1], tmp_path / "copy")
    app(["evaluate", str(trained_dots.run), "--data", f"{copy}/"])
    assert "note: 96 of these 120 images are called as images of dots" in capsys.readouterr().err
    other = draw_dots(tmp_path / "other", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=2, side=30)
    for name in ("red", "blue"):
        for path in (other / name).iterdir():
            path.rename(path.with_stem(f"new{path.stem}"))
    app(["evaluate", str(trained_dots.run), "--data", f"{other}/"])
    assert "note" not in capsys.readouterr().err
    run = RunFolder(shutil.copytree(trained_dots.run, tmp_path / "run"))
    app(["evaluate", str(run.path)])
    assert "prepared anew" not in capsys.readouterr().err
    began = run.environment()
    run.environment_file.unlink()
    app(["evaluate", str(run.path)])
    run.environment_file.write_text(json.dumps({**began, "data_sha256": "of other files"}))
    app(["evaluate", str(run.path)])
    assert "note: dots was prepared anew, from other files, since the training" in capsys.readouterr().err


def test_what_is_odd_about_a_folder_of_images_is_told_with_its_path(
    trained_dots, draw_dots, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    holdout = draw_dots(tmp_path / "val", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=2, side=30)
    with pytest.raises(ResattnError, match=f"{tmp_path} has val, with folders of their own") as refused:
        told(capsys, trained_dots.run, "--data", f"{tmp_path}/")
    assert refused.value.mend == f"name one of them: {holdout}"
    shutil.copy(holdout / "red" / "0.png", holdout / "loose.png")
    (holdout / "notes").mkdir()
    app(["evaluate", str(trained_dots.run), "--data", f"{holdout}/"])
    err = " ".join(capsys.readouterr().err.split())
    assert f"left out: {holdout}/notes holds no images" in err
    assert f"left out: 1 files beside the class folders of {holdout} were not read: loose.png" in err
    shutil.copy(holdout / "red" / "0.png", holdout / "notes")
    with pytest.raises(ResattnError, match=f"{holdout}/notes: .* knows no class 'notes'"):
        told(capsys, trained_dots.run, "--data", f"{holdout}/")


def test_a_measurement_published_again_keeps_its_conclusion(
    trained_dots, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = {"data": "dots", "split": "val", "seconds": 1.0, "scores": ({"name": "masks"},)}
    for seconds in (1.0, 2.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("resattn.experiments.publishing.write_results_page", lambda docs: docs)
            told_again = {**result, "seconds": seconds}
            publish_measurement("localization", told_again, tmp_path, source="a", options=["--localization"])
        (place,) = (tmp_path / "results").iterdir()
        conclusion = place / "conclusion.md"
        conclusion.write_text("They do look there.\n")
    assert conclusion.exists() and len(list(place.iterdir())) == 2

"""The verbs on trained weights, one's own and those that ship: predict, evaluate, release, and train from them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from resattn.errors import ResattnError
from resattn.training.recipe import Recipe, find_recipe
from resattn.training.run_folder import RunFolder
from resattn_launcher import app


def printed_by(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command prints, run in this process, where a test can say which weights ship."""
    app([*map(str, arguments)])
    return capsys.readouterr().out


def test_predict_takes_the_shipped_network_or_one_of_ours(
    trained_dots, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, file = trained_dots.photo, trained_dots.release / "resattn_mini.safetensors"
    shipped = printed_by(capsys, "predict", photo, "--json")
    assert json.loads(shipped)["source"] == str(photo)
    for arguments in (("resattn_mini", photo), (photo, "--model", "resattn_mini"), (file, photo)):
        assert printed_by(capsys, "predict", *arguments, "--json") == shipped
    both = printed_by(capsys, "predict", photo, photo, "--json").splitlines()
    assert [json.loads(line)["source"] for line in both] == [str(photo)] * 2
    own = printed_by(capsys, "predict", trained_dots.run, photo, "--json")
    assert own == printed_by(capsys, "predict", photo, "--model", trained_dots.run, "--json")
    assert json.loads(own)["labels"] == json.loads(shipped)["labels"]


def test_predict_goes_past_images_that_cannot_be_read(
    trained_dots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in bad:
        file.write_bytes(b"no image")
    photo = trained_dots.photo
    with pytest.raises(ResattnError, match=r"a\.png is not an image"):
        app(["predict", str(bad[0]), str(photo)])
    assert str(photo) in capsys.readouterr().out.replace("\n", "")
    with pytest.raises(ResattnError, match="2 images could not be read"):
        app(["predict", *map(str, (*bad, photo)), "--json"])
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [line["source"] for line in lines] == [*map(str, bad), str(photo)]
    assert ["error" in line for line in lines] == [True, True, False]
    assert told.err.count("left out: ") == 2


def test_an_exported_file_predicts_as_its_network(
    trained_dots, dots_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, file = trained_dots.photo, dots_onnx
    expected = json.loads(printed_by(capsys, "predict", trained_dots.run, photo, "--json"))
    found = json.loads(printed_by(capsys, "predict", file, photo, "--json"))
    assert found.pop("probabilities") == pytest.approx(expected.pop("probabilities"), abs=1e-4)
    assert found == expected
    app(["predict", str(photo), "--model", str(file), "--out", str(tmp_path / "out.jsonl")])
    assert json.loads((tmp_path / "out.jsonl").read_text())["labels"] == expected["labels"]
    with pytest.raises(ResattnError, match=r"dots\.onnx was exported: `resattn predict` and `serve` take it"):
        app(["evaluate", str(file)])


def test_the_example_without_this_package_runs(
    trained_dots,
    dots_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = (Path(__file__).parents[1] / "README.md").read_text().split("```python\n")
    (example,) = (block.split("```")[0] for block in blocks if "onnxruntime.InferenceSession" in block)
    monkeypatch.chdir(tmp_path)
    shutil.copy(dots_onnx, "resattn_small.onnx")
    with Image.open(trained_dots.photo) as image:  # of the size the network takes: nothing is resized
        image.save("photo.jpg", format="PNG")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert "resattn" not in example.replace("resattn_small.onnx", "").replace('["resattn"]', "")
    assert (
        done.stdout.strip()
        == json.loads(printed_by(capsys, "predict", trained_dots.run, "photo.jpg", "--json"))["descriptions"][
            0
        ]
    )


def test_predict_into_a_file_says_how_many(
    trained_dots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions.jsonl"
    printed = printed_by(capsys, "predict", trained_dots.photo, "--out", out, "--json")
    assert json.loads(printed) == {"out": str(out), "images": 1, "unreadable": 0, "before": 0}
    assert len(out.read_text().splitlines()) == 1


def test_the_shipped_network_evaluates_to_the_digit(trained_dots, capsys: pytest.CaptureFixture[str]) -> None:
    printed = json.loads(printed_by(capsys, "evaluate", "resattn_mini", "--flip", "--json"))
    facts = json.loads((trained_dots.release / "resattn_mini.json").read_text())
    for name in ("data", "split", "images", "top1", "top5", "loss", "ece", "model", "flip_average"):
        assert printed[name] == facts[name]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--from", "nowhere"], "nowhere is no run folder, weights file or model name"),
        (["train", "--from", "pretrained", "--model", "resattn_small"], "no weights ship for resattn_small"),
        (["train", "--data", "folder:/none"], "/none does not exist"),
        (["release", "nowhere"], "nowhere is no run folder, weights file or model name"),
        (["predict", "nowhere.jpg"], "nowhere.jpg does not exist"),
    ],
)
def test_what_is_not_there_is_named(
    trained_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResattnError) as refused:
        app(arguments)
    assert told in refused.value.what
    assert list(tmp_path.iterdir()) == []


def test_release_writes_beside_the_run(trained_dots, capsys: pytest.CaptureFixture[str]) -> None:
    told = printed_by(capsys, "release", trained_dots.run, "--name", "mine")
    assert "Stored as float16: half precision changes the number of right answers by 0 of 24." in " ".join(
        told.split()
    )
    assert {path.name for path in (trained_dots.run / "release").iterdir()} == {
        "mine.json", "mine.md", "mine.safetensors",
    }  # fmt: skip


def test_training_from_weights_takes_their_network_and_the_shipped_recipe(
    trained_dots,
    draw_dots,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RESATTN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    draw_dots(
        tmp_path / "leaves", {"birch": (0, 1, 0), "oak": (1, 1, 0), "yew": (0, 1, 1)}, images=4, side=24
    )
    length = ("--steps", 1, "--validations", 1, "--precision", "fp32")
    app(
        [
            *map(
                str,
                ("train", "--data", "folder:leaves", "--from", trained_dots.run, "--batch-size", 8, *length),
            )
        ]
    )
    assert "with the recipe fine-tune" in capsys.readouterr().err
    recipe = RunFolder(Path("runs/leaves-24-resattn_mini-1")).recipe()
    fine_tune = Recipe.from_yaml(find_recipe("fine-tune"))
    assert recipe == fine_tune.replace(
        data="leaves-24", start_from=str(trained_dots.run), batch_size=8, steps=1, validations=1,
        precision="fp32", model_options={"mask_width": 8},
    )  # fmt: skip
    assert json.loads(Path("runs/leaves-24-resattn_mini-1/results.json").read_text())["classes"] == 3
    with pytest.raises(ResattnError, match="the model is resattn_small"):
        app(["train", "--data", "leaves-24", "--from", str(trained_dots.run), "--model", "resattn_small"])

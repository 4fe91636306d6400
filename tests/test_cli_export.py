"""`resattn export`: where files land, what is printed, and what is refused."""

import json
from pathlib import Path

import pytest

from resattn.errors import ResattnError
from resattn.serving.exported_model import ExportedModel
from resattn_launcher import app

pytest.importorskip("onnx")


def test_a_run_is_exported_into_its_folder(
    trained_dots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "dots.onnx"
    app(["export", str(trained_dots.run), "--out", str(path), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == str(path) and printed["format"] == "onnx"
    assert printed["compared_on"] == "dots val" and printed["images"] == 24
    assert printed["largest_difference"] <= 1e-4 and printed["agreement"] == 1
    assert printed["top1_file"] == printed["top1_network"]
    assert ExportedModel.open(path).labels == ("blue", "red")

    app(["export", str(trained_dots.run), "--format", "onnx-int8", "--allow-loss", "10", "--masks"])
    told = capsys.readouterr().out
    written = trained_dots.run / "resattn_mini-int8.onnx"
    assert written.is_file() and str(written) in told.replace("\n", "")
    assert "top-1" in told and "stage1.0, stage2.0" in told
    written.unlink()


def test_data_that_are_not_prepared_are_said(
    trained_dots,
    resattn_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    app(["export", "resattn_mini"])
    captured = capsys.readouterr()
    assert "compared on noise only: there is no data set 'dots'" in captured.err
    assert "images of noise" in captured.out.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["resattn_mini.onnx"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere is no run folder"),
        (["resattn_mini", "--format", "onnx-int8"], "there is no data set 'dots'"),
        (["resattn_mini", "--data", "dotz"], "there is no data set 'dotz'"),
        (["resattn_mini", "--out", "."], ". is a folder"),
        (["resattn_mini", "--out", "x.bin"], "x.bin does not end in .onnx"),
    ],
)
def test_mistakes_leave_nothing(
    trained_dots,
    resattn_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResattnError) as refused:
        app(["export", *arguments])
    assert told in refused.value.what
    assert list(tmp_path.iterdir()) == []

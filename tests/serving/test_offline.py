"""Many images into one file: every one, once, in order, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resattn.errors import ResattnError
from resattn.serving.offline import predict_to_file


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two archives of 150 images each, one of which is none."""
    folder = tmp_path / "shards"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for number in range(150):
                path = tmp_path / f"{number:03}.png"
                Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
                if (shard, number) == (1, 7):
                    path.write_text("no image")
                archive.add(path, path.name)
    return folder


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_image_has_a_line(trained_dots, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.jsonl"
    report = predict_to_file("resattn_mini", [str(shards)], out, top=1)
    assert (report.images, report.unreadable, report.before) == (299, 1, 0)
    found = lines(out)
    sources = [f"{shards}/{shard}.tar/{number:03}.png" for shard in range(2) for number in range(150)]
    assert [line["source"] for line in found] == sources
    assert "is not an image" in str(found[157]["error"])
    assert all(line["labels"] in (["red"], ["blue"]) for line in found if "error" not in line)
    assert sorted(path.name for path in tmp_path.glob("predictions*")) == ["predictions.jsonl"]


def test_a_table_is_not_what_is_written(trained_dots, tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match="is called a table") as caught:
        predict_to_file(str(trained_dots.run), [str(trained_dots.photo)], tmp_path / "out.csv")
    assert f"--out {tmp_path / 'out.jsonl'}" in caught.value.mend
    assert not list(tmp_path.iterdir())


def test_killed_and_given_again_it_writes_the_same_file(
    trained_dots, shards: Path, resattn, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    predict_to_file(str(trained_dots.run), [str(shards)], whole)
    words = ["predict", str(trained_dots.run), str(shards), "--out", str(killed)]
    partial = tmp_path / "killed.jsonl.partial"
    command = [sys.executable, "-m", "resattn", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if partial.exists() and partial.stat().st_size:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    assert process.wait() == -signal.SIGKILL
    done = partial.read_bytes().count(b"\n")
    assert 0 < done < 300
    with partial.open("a") as file:
        file.write('{"source": "cut sh')
    assert f"{done} done before" in " ".join(resattn(*words).stdout.split())
    for ours, theirs in zip(lines(killed), lines(whole), strict=True):
        assert ours["source"] == theirs["source"]
        assert ours.get("labels") == theirs.get("labels")
        # Batches fall elsewhere, and with them the last digits.
        np.testing.assert_allclose(ours.get("probabilities", 0), theirs.get("probabilities", 0), atol=1e-6)
    assert sorted(path.name for path in tmp_path.glob("killed*")) == ["killed.jsonl"]


def test_one_file_has_one_writer(trained_dots, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    partial = tmp_path / "out.jsonl.partial"
    command = [
        sys.executable,
        "-m",
        "resattn",
        "predict",
        str(trained_dots.run),
        str(shards),
        "--out",
        str(out),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (partial.exists() and partial.stat().st_size):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ResattnError, match=r"another process is writing .*out\.jsonl"):
                predict_to_file(str(trained_dots.run), [str(shards)], out)
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.wait(120) == 0
    assert len({line["source"] for line in lines(out)}) == len(lines(out)) == 300
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl"]


def test_it_does_not_go_on_with_something_else(trained_dots, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("")
    with pytest.raises(ResattnError, match=r"out\.jsonl is there already"):
        predict_to_file("resattn_mini", [str(shards)], out)
    out.unlink()
    (tmp_path / "empty").mkdir()
    # What was begun with nothing done is no beginning.
    with pytest.raises(ResattnError, match="shrads does not exist"):
        predict_to_file("resattn_mini", ["shrads"], out)
    with pytest.raises(ResattnError, match="empty holds no image files"):
        predict_to_file("resattn_mini", [str(shards), str(tmp_path / "empty")], out)
    assert len(lines(tmp_path / "out.jsonl.partial")) == 300
    with pytest.raises(ResattnError, match="was begun with top 5, and now it is 1"):
        predict_to_file("resattn_mini", [str(shards), str(tmp_path / "empty")], out, top=1)
    with pytest.raises(ResattnError, match="was begun with paths") as caught:
        predict_to_file("resattn_mini", [str(shards)], out)
    assert "remove out.jsonl.job and out.jsonl.partial" in caught.value.mend
    (shards / "1.tar").rename(shards / "2.tar")
    with pytest.raises(ResattnError, match="the images are others than when"):
        predict_to_file("resattn_mini", [str(shards), str(tmp_path / "empty")], out)

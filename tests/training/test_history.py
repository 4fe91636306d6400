"""metrics.csv where the disk is full or a process was killed: what is whole stays."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resattn.errors import CannotWrite
from resattn.training.history import COLUMNS, History, read_rows

WHOLE = ",".join(COLUMNS) + "\n1,0.1,12,1.5,0.01,32,0.7,0.5,,,\n2,0.2,24,3.0,0.01,32,0.6,0.6,,,\n"


@pytest.mark.parametrize("torn", ["", "3,0.3,3", "3,0.3,36,4.5,0.01,32,0.5,0.7,", "3"])
def test_the_last_row_is_whole_whatever_was_cut_short_before_it(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(WHOLE + torn)
    history = History(path, every=1, train_images=120)
    history.images, history.seconds = 48, 6.0
    history.append_final(4, {"val_loss": 0.5, "val_top1": 0.9, "val_top5": 1.0}, 32)
    rows = read_rows(path)
    assert [row["images"] for row in rows] == ["12", "24", "48"]
    assert (rows[-1]["seconds"], rows[-1]["val_top1"]) == ("6.0", "0.9")


def test_a_line_of_two_halves_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(WHOLE + "3,0.3,34,0.4,48,6.0,0.0,32,,,0.5,0.9,1.0\n")
    assert [row["step"] for row in read_rows(path)] == ["1", "2"]


def test_a_full_disk_takes_no_row_when_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(WHOLE)
    history = History(path, every=1, train_images=120)
    history.images = 12

    def full(self: Any, rows: Any) -> None:
        raise OSError(28, "No space left on device")

    trainer: Any = SimpleNamespace(is_global_zero=True)
    module: Any = None
    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", full)
        with pytest.raises(CannotWrite, match="No space left"):
            history.on_train_start(trainer, module)
    assert path.read_text() == WHOLE
    assert list(tmp_path.iterdir()) == [path]
    history.on_train_start(trainer, module)
    assert [row["step"] for row in read_rows(path)] == ["1"]

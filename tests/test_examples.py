"""The examples run, against the engines they are for."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_ray_data_classifies_a_folder(trained_dots, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'ray[data]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = trained_dots.photo.parent  # images of red noise
    command = [sys.executable, str(EXAMPLES / "ray_data.py"), str(folder), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--model", str(trained_dots.run), "--workers", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert sorted(Path(row["path"]).name for row in rows) == sorted(path.name for path in folder.iterdir())
    assert sum(row["label"] == "red" for row in rows) > 0.9 * len(rows)
    assert all(0 <= row["probability"] <= 1 for row in rows)

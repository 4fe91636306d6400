"""How the command ends where it cannot go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.parametrize("images", [1, 100])
def test_a_reader_that_has_seen_enough_ends_the_command_quietly(images: int, tmp_path: Path) -> None:
    """As `| head -1` does; what is printed fits into one buffer, or does not."""
    for number in range(images):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "resattn_launcher", "predict", str(tmp_path), "--json"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_names_that_the_terminal_has_no_letters_for_are_printed_all_the_same(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / f"{'long ' * 20}金.png")
    command = [sys.executable, "-m", "resattn_launcher", "predict", str(tmp_path)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert (
        f"{'long ' * 20}?.png" in ended.stdout.decode("latin-1").splitlines()[0]
    )  # whole, though it is piped

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

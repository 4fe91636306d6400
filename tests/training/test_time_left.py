"""The time left of a run whose images grow."""

import io
import re
import sys
from pathlib import Path

import pytest

from resattn.training.budget import StepKind
from resattn.training.progress_display import Series
from resattn.training.recipe import Recipe
from resattn.training.run import train
from resattn.training.run_folder import RunFolder
from resattn.training.time_left import TimeLeft

SMALL, LARGE = StepKind(32, False), StepKind(64, False)


def test_what_is_measured_is_counted_exactly() -> None:
    left = TimeLeft([SMALL] * 10 + [LARGE] * 5)
    for batch in range(11):
        left.took(batch, 1.0 if batch < 10 else 3.0)
    assert left.seconds(done=0) == pytest.approx(10 * 1.0 + 5 * 3.0)
    assert left.seconds(done=11) == pytest.approx(4 * 3.0)
    assert left.seconds(done=15) == 0


def test_larger_images_to_come_count_for_more_and_a_classifier_alone_for_less() -> None:
    left = TimeLeft([StepKind(32, True)] * 4 + [SMALL] * 4 + [LARGE] * 4)
    assert left.seconds(done=0) == 0  # nothing is known yet
    left.took(0, 1.0)
    whole = left.seconds(done=4)
    assert whole == pytest.approx(left.seconds(done=8) + 4 * 3.0)
    assert 4 * 3.0 * 2 < left.seconds(done=8) < 4 * 3.0 * 4  # between the ratio of sides and that of areas
    left.took(4, 2.0)
    assert left.seconds(done=4) == pytest.approx(whole * 2 / 3)


def test_a_machine_that_slows_down_is_noticed() -> None:
    left = TimeLeft([SMALL] * 1000)
    for batch in range(600):
        left.took(batch, 1.0 if batch < 300 else 2.0)
    assert 1.9 < left.seconds(done=999) <= 2.0


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def short(data: str) -> Recipe:
    recipe = Recipe(data=data, model_options={"width_scale": 0.25}, steps=4, batch_size=12)
    return recipe.replace(validations=1, precision="fp32")


def test_a_log_says_steps_speed_and_time_left(
    dots: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("resattn.training.progress_display.PLAIN_LINE_SECONDS", 0.0)
    train(short(dots), RunFolder(tmp_path / "run"))
    told = capsys.readouterr().err
    lines = re.findall(r"step (\d) of 4  .* images/s  loss .*  acc .*%  ([\d.]+) min left", told)
    assert [step for step, _ in lines] == ["1", "2", "3", "4"]
    assert float(lines[-1][1]) == 0


def test_a_terminal_has_a_bar_for_the_run_and_one_for_all(
    dots: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")  # a dumb one is taken for 80 characters wide
    monkeypatch.setenv("COLUMNS", "160")
    # So that the others take long enough to be seen in seconds.
    train(short(dots), RunFolder(tmp_path / "run"), series=Series(2, 100_000, "masks, seed 0"))
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
    whole, run = ([line for line in lines if line.startswith(name)][-1] for name in ("run 2", "training"))
    assert "2 of 100000, masks, seed 0" in whole and "8/400000" in whole
    time_of_all = re.search(r"(\d+ days?, )?\d+:\d\d:\d\d\s*$", whole)
    assert time_of_all and time_of_all[0].strip() != "0:00:00"
    assert re.search(r"training .* 4/4 .* images/s  loss .* acc .*%\s+0:00:00\s*$", run)

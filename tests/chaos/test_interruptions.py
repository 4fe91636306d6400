"""Signals at random moments of every command: given again, it ends where it would have ended, and nothing is lost.

The suite tries none of them: tests/data/test_interruption.py and tests/training/test_resume.py kill at chosen moments.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from disturbed_commands import COMMANDS, Place

MOMENTS = int(os.environ.get("RESATTN_CHAOS_MOMENTS", "0"))
SEED = int(os.environ.get("RESATTN_CHAOS_SEED", "0"))
# Of a command's time: before, Python starts and torch is loaded; behind, many a command has come to its end, because
# the machine is not always as fast as when its time was taken.
BEGINS, ENDS = 0.25, 0.75


def moments(kind: signal.Signals, count: int) -> list[object]:
    """`count` moments for each command, as shares of the time it takes."""
    chance = random.Random(f"{SEED} {kind.name}")
    return [
        pytest.param(name, kind, share, id=f"{name}-{kind.name}-{share}")
        for name in COMMANDS
        for share in (round(chance.uniform(BEGINS, ENDS), 3) for _ in range(count))
    ]


KILLS = [*moments(signal.SIGKILL, MOMENTS), *moments(signal.SIGTERM, MOMENTS)]
SLEEPS = moments(signal.SIGSTOP, (MOMENTS + 1) // 2)


@pytest.fixture(scope="session")
def undisturbed(
    prototype: Place, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[object, float]]:
    """What a command ends in, and how long it takes, when nothing happens; done once for each."""
    known: dict[str, tuple[object, float]] = {}

    def find(name: str) -> tuple[object, float]:
        if name not in known:
            place = Place(Path(shutil.copytree(prototype.path, tmp_path_factory.mktemp(name) / "place")))
            began = time.monotonic()
            place.run(COMMANDS[name].first)
            known[name] = COMMANDS[name].outcome(place.path), time.monotonic() - began
        return known[name]

    return find


def disturb(process: subprocess.Popen[str], kind: signal.Signals, after: float) -> tuple[str, bool]:
    """Send a signal after so many seconds; what the process said, and whether it met the signal alive."""
    try:
        out, told = process.communicate(timeout=after)
        return out + told, False
    except subprocess.TimeoutExpired:
        process.send_signal(kind)
    if kind is signal.SIGSTOP:
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
    out, told = process.communicate(timeout=300)
    return out + told, True


@pytest.mark.parametrize(("name", "kind", "share"), KILLS)
def test_a_command_that_was_killed_is_given_again(
    name: str,
    kind: signal.Signals,
    share: float,
    place: Place,
    undisturbed: Callable[[str], tuple[object, float]],
    survived: Callable[[str], None],
) -> None:
    command = COMMANDS[name]
    expected, seconds = undisturbed(name)
    process = place.start(command.first)
    told, met = disturb(process, kind, share * seconds)
    if met:
        assert process.returncode in (-kind, 128 + kind, 0), told
    assert "Traceback" not in told
    done = command.finished(place.path)
    if kind is signal.SIGTERM:
        assert place.leftovers() == []
        if name == "train" and "resattn train --resume" in told:
            assert (place.path / "runs/one/recipe.yaml").exists()
    again = command.again(place.path) if command.again else command.first
    if again is not None and (met or command.again is None):
        place.run(again)
    assert command.outcome(place.path) == expected
    after = command.finished(place.path)
    assert {file: after.get(file) for file in done} == done
    assert place.leftovers() == []
    survived(f"{kind.name} during {name}" if met else f"{kind.name} too late for {name}")


@pytest.mark.parametrize(("name", "kind", "share"), SLEEPS)
def test_a_command_that_was_put_to_sleep_wakes_up(
    name: str,
    kind: signal.Signals,
    share: float,
    place: Place,
    undisturbed: Callable[[str], tuple[object, float]],
    survived: Callable[[str], None],
) -> None:
    expected, seconds = undisturbed(name)
    process = place.start(COMMANDS[name].first)
    told, met = disturb(process, kind, share * seconds)
    assert process.returncode == 0, told
    assert COMMANDS[name].outcome(place.path) == expected
    assert place.leftovers() == []
    survived(f"SIGSTOP and SIGCONT during {name}" if met else f"SIGSTOP too late for {name}")

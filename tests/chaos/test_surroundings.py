"""Full and read-only disks, little memory, clocks that jump, damaged files, a rival: told, mended, survived."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disturbed_commands import COMMANDS, TRAIN, Place

from resattn.training.checkpoints import checkpoint_files
from resattn.training.history import read_rows

SEED = int(os.environ.get("RESATTN_CHAOS_SEED", "0"))
DAMAGES = int(os.environ.get("RESATTN_CHAOS_MOMENTS", "0"))
MEMORY = Path("/sys/fs/cgroup/memory")
TRAINING = COMMANDS["train"]
# Python reads this before anything else, where it lies on PYTHONPATH as sitecustomize.py.
JUMPS = """
import itertools, time
true, jumps = time.time, itertools.cycle((0, 86_400, -86_400, 3e8, -3e8))
time.time = lambda: true() + next(jumps)
"""


@pytest.fixture(scope="session")
def trained(prototype: Place, tmp_path_factory: pytest.TempPathFactory) -> object:
    """What the training ends in when nothing happens."""
    place = Place(Path(shutil.copytree(prototype.path, tmp_path_factory.mktemp("trained") / "place")))
    place.run(TRAIN)
    return TRAINING.outcome(place.path)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own at `folder`; call what it gives with options of mount to change it."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def failed(place: Place, arguments: list[str], **environment: str) -> str:
    """What a command says that has to fail in a way its user can mend."""
    process = place.start(arguments, **environment)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 1, told
    assert "Traceback" not in told
    assert "error: " in told and "mend: " in told, told
    return told


@pytest.mark.long
def test_training_outlives_a_full_disk(
    place: Place, trained: object, survived: Callable[[str], None]
) -> None:
    with small_disk(place.path / "runs", "600k") as remount:
        told = failed(place, TRAIN)
        assert "cannot write" in told
        assert "runs/one" in told
        remount("size=200m")
        again = TRAINING.again(place.path) if TRAINING.again else None
        assert again is not None
        place.run(again)
        assert TRAINING.outcome(place.path) == trained
        assert place.leftovers() == []
    survived("disk full during train")


def test_preparing_outlives_a_full_disk(place: Place, survived: Callable[[str], None]) -> None:
    home = place.path / "home"
    shutil.rmtree(home)
    with small_disk(home, "300k") as remount:
        told = failed(place, list(COMMANDS["prepare"].first))
        assert "the disk has" in told
        assert place.leftovers() == []
        remount("size=50m")
        place.run(COMMANDS["prepare"].first)
        assert COMMANDS["prepare"].outcome(place.path)
    survived("disk full during prepare")


@pytest.mark.long
def test_a_read_only_disk_is_told(place: Place, trained: object, survived: Callable[[str], None]) -> None:
    with small_disk(place.path / "runs", "200m") as remount:
        remount("ro")
        assert "cannot write runs/one: Read-only file system" in failed(place, TRAIN)
        remount("rw")
        place.run(TRAIN)
        assert TRAINING.outcome(place.path) == trained
    survived("read-only disk under train")


@pytest.mark.long
def test_a_clock_that_jumps_changes_nothing(
    place: Place, trained: object, survived: Callable[[str], None]
) -> None:
    (place.path / "jumps").mkdir()
    (place.path / "jumps" / "sitecustomize.py").write_text(JUMPS)
    place.run(TRAIN, PYTHONPATH=str(place.path / "jumps"))
    assert TRAINING.outcome(place.path) == trained
    survived("clock jumps during train")


@pytest.mark.long
def test_nothing_needs_a_network(place: Place, trained: object, survived: Callable[[str], None]) -> None:
    alone = ["unshare", "--net"]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare to take the network away")
    seen = subprocess.run([*alone, "cat", "/proc/net/route"], capture_output=True, text=True)
    if seen.returncode:
        pytest.skip(f"needs a namespace without a network: {seen.stderr.strip()}")
    assert len(seen.stdout.splitlines()) <= 1  # there is no way out
    place.run(COMMANDS["prepare"].first, within=alone)
    place.run(TRAIN, within=alone)
    place.run(["predict", "runs/one", "dots/red"], within=alone)
    assert TRAINING.outcome(place.path) == trained
    survived("no network")


@pytest.mark.long
@pytest.mark.parametrize("number", range(max(1, DAMAGES)))
def test_a_damaged_checkpoint_costs_no_more_than_itself(
    number: int, place: Place, trained: object, survived: Callable[[str], None]
) -> None:
    chance = random.Random(f"{SEED} damage {number}")
    process = place.start(TRAIN)
    folder = place.path / "runs/one/checkpoints"
    deadline = time.monotonic() + 120
    while len(checkpoint_files(folder)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    newest = checkpoint_files(folder)[0]
    content = bytearray(newest.read_bytes())
    if chance.random() < 0.5:
        content = content[: chance.randrange(len(content))]
        kind = "checkpoint cut short"
    else:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        kind = "bit of a checkpoint flipped"
    newest.write_bytes(content)
    again = place.start(["train", "--resume", "--run-dir", "runs/one"])
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert f"{newest.name} is damaged" in told
    assert TRAINING.outcome(place.path) == trained
    survived(kind)


@pytest.mark.long
def test_a_rival_is_refused_and_disturbs_nothing(
    place: Place, trained: object, survived: Callable[[str], None]
) -> None:
    first = place.start(TRAIN)
    deadline = time.monotonic() + 120
    while not read_rows(place.path / "runs/one/metrics.csv") and time.monotonic() < deadline:
        time.sleep(0.005)
    rival = place.start(["train", "--resume", "--run-dir", "runs/one"])
    _, told = rival.communicate(timeout=300)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 0, said
    # Whether it came in time is chance: training takes about as long as the rival takes to start.
    assert "another process is training" in told or "is finished" in told
    assert TRAINING.outcome(place.path) == trained
    survived("two train in one folder")


@pytest.mark.long
def test_data_that_changed_are_refused(
    place: Place, trained: object, survived: Callable[[str], None]
) -> None:
    process = place.start(TRAIN)
    deadline = time.monotonic() + 120
    while not checkpoint_files(place.path / "runs/one/checkpoints") and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    (images,) = (place.path / "home/data/dots").rglob("train/images.npy")
    whole = images.read_bytes()
    images.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    resume = ["train", "--resume", "--run-dir", "runs/one"]
    assert "has changed since it was written" in failed(place, resume)
    images.write_bytes(whole)
    place.run(resume)
    assert TRAINING.outcome(place.path) == trained
    survived("data changed under train")


@pytest.mark.parametrize("name", [pytest.param("prepare", marks=pytest.mark.long), "train"])
def test_three_quarters_of_a_gibibyte_are_enough(
    name: str, place: Place, survived: Callable[[str], None]
) -> None:
    group = MEMORY / f"resattn-{os.getpid()}-{name}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"needs a memory cgroup: {error.strerror}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(768 * 2**20))
        process = place.start(COMMANDS[name].first)
        (group / "cgroup.procs").write_text(str(process.pid))
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
        assert COMMANDS[name].outcome(place.path)
    finally:
        group.rmdir()
    survived(f"little memory for {name}")

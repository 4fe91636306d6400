"""Runs that are killed, interrupted or meet a full disk, for real, in processes of their own."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import resattn
from resattn.data.packed import open_split
from resattn.data.packing import PackedWriter
from resattn.data.tiny_imagenet import prepare_tiny_imagenet

SCRIPT = Path(__file__).with_name("slow_prepare.py")


def start(archive: Path, root: Path, behaviour: str) -> subprocess.Popen[str]:
    source = str(Path(resattn.__file__).parent)
    command = [sys.executable, str(SCRIPT), source, str(archive), str(root), behaviour]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def signal_while_writing(archive: Path, root: Path, kind: signal.Signals) -> subprocess.Popen[str]:
    process = start(archive, root, "slow")
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "writing\n"
    process.send_signal(kind)
    process.communicate(timeout=30)
    return process


def test_sigint_leaves_nothing(archive: Callable[[], Path], tmp_path: Path, samples) -> None:
    root = tmp_path / "data"
    process = signal_while_writing(archive(), root, signal.SIGINT)
    assert process.returncode in (-signal.SIGINT, 1)
    assert samples.below(root) == []


def test_leftovers_of_a_kill_are_cleared_by_the_next_prepare(
    archive: Callable[[], Path], tmp_path: Path, samples
) -> None:
    root, path = tmp_path / "data", archive()
    prepare_tiny_imagenet(archive=path, root=root)
    before = samples.below(root)
    process = signal_while_writing(path, root, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert any(".preparing-" in name for name in samples.below(root))
    assert open_split("tiny-imagenet", root=root).images.shape == (36, 64, 64, 3)
    with PackedWriter("other", class_ids=["a"], class_names=["a"], command="", root=root):
        pass
    assert samples.below(root) == before


def test_a_prepare_that_was_killed_is_given_again(
    archive: Callable[[], Path], tmp_path: Path, samples
) -> None:
    path, whole, killed = archive(), tmp_path / "whole", tmp_path / "killed"
    prepare_tiny_imagenet(archive=path, root=whole)
    signal_while_writing(path, killed, signal.SIGKILL)
    assert any(".preparing-" in name for name in samples.below(killed))
    prepare_tiny_imagenet(archive=path, root=killed)
    assert len(samples.below(killed)) == len(samples.below(whole))
    for split in ("train", "val", "test"):
        expected, found = (open_split("tiny-imagenet", split, root=root).images for root in (whole, killed))
        np.testing.assert_array_equal(found, expected)


def test_a_running_prepare_is_not_taken_for_a_leftover(
    archive: Callable[[], Path], tmp_path: Path, samples
) -> None:
    root, path = tmp_path / "data", archive()
    with start(path, root, "slow") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        with PackedWriter("other", class_ids=["a"], class_names=["a"], command="", root=root):
            pass
        assert any(".preparing-" in name for name in samples.below(root))
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_file_that_the_system_does_not_let_grow(
    archive: Callable[[], Path], tmp_path: Path, samples
) -> None:
    root = tmp_path / "data"
    process = start(archive(), root, "small-files")
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (1, "")
    assert output.startswith(f"could not write {root}/tiny-imagenet/.preparing-")
    assert "/train/images.npy: File too large\n  mend: make room on the disk of " in output
    assert samples.below(root) == []

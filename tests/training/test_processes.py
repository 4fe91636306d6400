"""Two processes that train together end where one alone does; killed or stopped, they say so and go on."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from two_processes import RESATTN, SCRIPT, TORCHRUN, recipe_of, written

from resattn.training import job, run
from resattn.training.history import read_history, read_rows
from resattn.training.run_folder import RunFolder
from resattn.training.synchronized_norm import synchronize_norms

pytestmark = pytest.mark.usefixtures("at_home")


@pytest.fixture(scope="module")
def by_two(home: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The recipe's run by two processes, through the command."""
    place = tmp_path_factory.mktemp("two")
    command = [*RESATTN, "--recipe", written(recipe_of(), place), "--run-dir", str(place / "run")]
    environment = {**os.environ, "RESATTN_HOME": str(home)}
    done = subprocess.run([*command, "--devices", "2"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return RunFolder(place / "run")


def assert_same_bits(first: RunFolder, second: RunFolder) -> None:
    weights, others = load_file(first.weights_file), load_file(second.weights_file)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), f"{name} differs"


def test_two_processes_do_the_very_steps_that_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(steps=16)
    alone, two = (RunFolder(tmp_path / name) for name in ("alone", "two"))
    script = [str(SCRIPT), written(recipe, tmp_path), str(two.path), "exact"]
    done = subprocess.run([*TORCHRUN, "--nproc-per-node", "2", *script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # So that what the script puts there goes again.
    monkeypatch.setattr(job, "starting_network", job.starting_network)
    monkeypatch.setattr(run, "save_weights", run.save_weights)
    runpy.run_path(str(SCRIPT))["compute_in_double_precision"]()
    run.train(recipe, alone)
    ours, theirs = read_history(alone.metrics_file), read_history(two.metrics_file)
    assert len(ours["step"]) == 18  # a row a step, and the two validations'
    assert set(ours["size"]) == {24, 32}
    for column in ("step", "epoch", "images", "lr", "size"):
        np.testing.assert_array_equal(theirs[column], ours[column], err_msg=column)
    for column in ("train_loss", "train_accuracy", "val_loss", "val_top1"):
        np.testing.assert_allclose(theirs[column], ours[column], rtol=1e-6, err_msg=column)
    weights, others = load_file(alone.weights_file), load_file(two.weights_file)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(
            others[name], tensor, rtol=1e-6, atol=1e-8, msg=lambda text, n=name: n + text
        )


def test_the_command_starts_them_and_one_of_them_speaks(tmp_path: Path) -> None:
    recipe = recipe_of(steps=16)
    alone, two = (RunFolder(tmp_path / name) for name in ("alone", "two"))
    command = [*RESATTN, "--recipe", written(recipe, tmp_path), "--run-dir", str(two.path)]
    done = subprocess.run([*command, "--devices", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes") == 1
    assert done.stdout.count("The run lies in") == 1
    run.train(recipe, alone)
    ours, theirs = read_history(alone.metrics_file), read_history(two.metrics_file)
    # In single precision rounding grows from step to step.
    np.testing.assert_allclose(theirs["train_loss"][:4], ours["train_loss"][:4], rtol=1e-5)
    np.testing.assert_allclose(theirs["train_loss"], ours["train_loss"], rtol=0.1)
    one, both = (json.loads(folder.results_file.read_text()) for folder in (alone, two))
    assert one["top1"] == both["top1"]
    assert two.environment()["processes"] == 2


@pytest.mark.long
def test_a_killed_process_is_started_again_and_the_run_ends_in_the_same_bits(
    by_two: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    script = [str(SCRIPT), written(recipe_of(), tmp_path), str(folder.path), "killed"]
    done = subprocess.run(
        [*TORCHRUN, "--nproc-per-node", "2", "--max-restarts", "1", *script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stderr
    assert_same_bits(by_two, folder)
    assert not list(folder.path.rglob("*.partial"))


@pytest.fixture
def two_hosts() -> Iterator[list[tuple[str, str]]]:
    """The name and the address of two network namespaces that only a cable joins: two machines with one disk."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2 to make network namespaces")
    names = [f"resattn-{os.getpid()}-{end}" for end in "ab"]
    addresses = ["10.211.97.1", "10.211.97.2"]
    cable = [f"rsn{os.getpid() % 100_000}{end}" for end in "ab"]

    def ip(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *words], capture_output=True, text=True)

    try:
        for name in names:
            made = ip("netns", "add", name)
            if made.returncode:
                pytest.skip(f"needs network namespaces, and this machine makes none: {made.stderr.strip()}")
        ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for name, address, end in zip(names, addresses, cable, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield list(zip(names, addresses, strict=True))
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.mark.long
def test_two_hosts_train_together(
    by_two: RunFolder, two_hosts: list[tuple[str, str]], tmp_path: Path
) -> None:
    folder, recipe = RunFolder(tmp_path / "run"), written(recipe_of(), tmp_path)
    together = ["--devices", "1", "--nodes", "2", "--head", f"{two_hosts[0][1]}:29411"]
    hosts = [
        subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                name,
                *RESATTN,
                "--recipe",
                recipe,
                "--run-dir",
                str(folder.path),
                *together,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, _ in two_hosts
    ]
    told = [host.communicate(timeout=240) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], told
    assert sum("The run lies in" in out for out, _ in told) == 1
    assert_same_bits(by_two, folder)


@pytest.mark.long
def test_a_signal_stops_both_and_both_go_on(by_two: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    several = ["--run-dir", str(folder.path), "--devices", "2"]
    process = subprocess.Popen(
        [*RESATTN, "--recipe", written(recipe_of(), tmp_path), *several],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(read_rows(folder.metrics_file)) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, told
    assert told.count(f"resattn train --resume --run-dir {folder.path}") == 1
    assert not folder.weights_file.exists()
    subprocess.run([*RESATTN, "--resume", *several], check=True, capture_output=True)
    assert_same_bits(by_two, folder)


def test_exchanged_norms_keep_their_parameters_and_names() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, eps=1e-3)), nn.ReLU())
    before = network.state_dict()
    synchronize_norms(network, torch.device("cpu"))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(after[name].data_ptr() == tensor.data_ptr() for name, tensor in before.items())
    images = torch.rand(2, 3, 5, 5)
    expected = nn.functional.relu(
        nn.functional.conv2d(images, before["0.weight"], before["0.bias"]) / 1.001**0.5
    )
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), expected.detach())


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes in /proc")
def test_a_first_process_that_was_killed_is_named(by_two: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [
        *RESATTN,
        "--recipe",
        written(recipe_of(steps=2000), tmp_path),
        "--run-dir",
        str(folder),
        "--devices",
        "2",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.csv").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ranks = {int(child): Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children}
        (first,) = [child for child, environment in ranks.items() if b"RANK=0" in environment]
        os.kill(first, signal.SIGKILL)
        _, told = process.communicate(timeout=120)
    finally:
        process.terminate()  # does nothing to one that has ended
    assert process.returncode == 128 + signal.SIGKILL
    assert "process 0 was ended by SIGKILL; go on with --resume" in told

import os
import platform
import subprocess
import sys

import pytest
import torch

from resattn import hardware
from resattn.errors import ResattnError
from resattn.hardware import choose_execution, reference_execution


def pretend(monkeypatch: pytest.MonkeyPatch, *, feature: bool, fp32: float, bf16: float) -> None:
    """A CPU with or without bf16 instructions, and how long a convolution takes on it in both formats."""
    seconds = {torch.float32: fp32, torch.bfloat16: bf16}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": feature})
    monkeypatch.setattr(hardware, "_convolution_seconds", seconds.__getitem__)


@pytest.mark.parametrize(
    ("feature", "bf16", "precision", "reason"),
    [
        (True, 0.5, "bf16", "2.0x as fast in bf16"),
        (True, 1.5, "fp32", "only 0.7x as fast in bf16"),
        (False, 0.1, "fp32", "no bf16 instructions"),
    ],
)
def test_bf16_is_taken_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, feature: bool, bf16: float, precision: str, reason: str
) -> None:
    monkeypatch.delenv("RESATTN_PRECISION", raising=False)
    pretend(monkeypatch, feature=feature, fp32=1.0, bf16=bf16)
    chosen = choose_execution("auto", "cpu")
    assert chosen.precision == precision
    assert reason in chosen.reason


def test_the_switch_overrules_auto_but_not_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESATTN_PRECISION", "bf16")
    assert choose_execution("auto", "cpu").precision == "bf16"
    assert choose_execution("fp32", "cpu").precision == "fp32"
    monkeypatch.setenv("RESATTN_PRECISION", "fp64")
    with pytest.raises(ResattnError, match="'fp64', which is no precision"):
        choose_execution("auto", "cpu")


def test_autocast_computes_in_the_format_it_says() -> None:
    layer, images = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with choose_execution(precision, "cpu").autocast():
            assert layer(images).dtype == dtype


def test_reported_figures_are_fp32() -> None:
    assert reference_execution("cpu").precision == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ResattnError, match="no usable GPU"):
        choose_execution("fp32", "cuda")
    with pytest.raises(ResattnError, match="'gpu' is no device"):
        choose_execution("fp32", "gpu")


FAULTS = """
import resource, sys
import torch
from resattn.hardware import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def allocate():
    for _ in range(20):
        torch.ones(2**24)  # 64 MiB, freed at once
allocate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
allocate()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.long
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
def test_freed_memory_is_used_again_instead_of_asked_for_again() -> None:
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, check=True).stdout
        )
        for mode in ("default", "kept")
    }
    assert faults["kept"] < faults["default"] / 10


def test_a_cpu_without_bf16_computes_in_fp32(modules_alone: str) -> None:
    program = (
        modules_alone
        + "from resattn.hardware import choose_execution as c; e = c(); print(e.precision, e.reason, sep=': ')"
    )
    # What oneDNN and ATen do on a CPU of 2013.
    old = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    environment = {name: value for name, value in os.environ.items() if name != "RESATTN_PRECISION"} | old
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("fp32: "), done.stdout

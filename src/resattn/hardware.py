"""What this machine computes fastest: device, number format and memory layout, measured rather than assumed."""

import ctypes
import os
import sys
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from resattn.errors import ResattnError

Precision = Literal["fp32", "bf16"]
PRECISION_SWITCH = "RESATTN_PRECISION"
WORTHWHILE_SPEEDUP = 1.1
LOADING_THREADS = 8
# Numbers of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _LARGEST_INT = -1, -3, 2**31 - 1


@dataclass(frozen=True)
class Execution:
    """How a network is run.

    `precision` "bf16" means bfloat16 autocast over float32 weights. `channels_last` says that images and
    convolution weights lie in memory as N x H x W x C. `reason` is one readable sentence on why.
    """

    device: torch.device
    precision: Precision
    channels_last: bool
    reason: str

    def autocast(self) -> torch.autocast:
        """The context in which forward passes are computed."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def loading_threads(self) -> int:
        """Threads that make batches beside the training: a GPU would wait for them, a CPU has no core to spare."""
        return min(LOADING_THREADS, usable_cores()) if self.device.type == "cuda" else 0

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format for images and networks."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def usable_cores() -> int:
    """How many cores this process may use, 1 at least."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_execution(precision: Literal["auto", "fp32", "bf16"] = "auto", device: str = "auto") -> Execution:
    """Choose device, precision and memory layout for this machine.

    With "auto", bfloat16 is taken on GPUs that compute it natively, and on CPUs only where a convolution timed on the
    spot (about 0.1 s) is faster in it: having the instruction does not make it so. `$RESATTN_PRECISION` (fp32 or bf16)
    overrides "auto". Raises ResattnError for a device that is not there or a value that is none.
    """
    chosen = _device(device)
    switch = os.environ.get(PRECISION_SWITCH)
    if precision == "auto" and switch:
        if switch not in ("fp32", "bf16"):
            raise ResattnError(
                f"{PRECISION_SWITCH} is {switch!r}, which is no precision", "set it to fp32 or bf16"
            )
        return Execution(
            chosen, "bf16" if switch == "bf16" else "fp32", True, f"{PRECISION_SWITCH} says {switch}"
        )
    if precision != "auto":
        return Execution(chosen, precision, True, f"{precision} was asked for")
    best, reason = _gpu_precision() if chosen.type == "cuda" else _cpu_precision(chosen)
    return Execution(chosen, best, True, reason)


def reference_execution(device: str = "auto") -> Execution:
    """Float32 on the best device: what reported accuracies are computed with, so that machines agree."""
    return Execution(_device(device), "fp32", True, "reported figures are computed in fp32")


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees, for the next step to use.

    glibc hands large freed blocks back to the system and asks for them again, page by page, at every step. Other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # Both, because setting either one stops glibc from adapting the other.
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ResattnError(f"{name!r} is no device", "use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ResattnError(f"device {name} was asked for, and this machine has no usable GPU", "use cpu")
    return device


def _gpu_precision() -> tuple[Precision, str]:
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", "the GPU computes bf16 natively"
    return "fp32", "the GPU has no native bf16"


def _cpu_precision(device: torch.device) -> tuple[Precision, str]:
    if device.type != "cpu":
        return "fp32", f"bf16 is not tried on {device.type}"
    features = torch.cpu.get_capabilities()
    if not (features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16")):
        return "fp32", "the CPU has no bf16 instructions"
    speedup = _convolution_seconds(torch.float32) / _convolution_seconds(torch.bfloat16)
    if speedup >= WORTHWHILE_SPEEDUP:
        return "bf16", f"a convolution runs {speedup:.1f}x as fast in bf16 on this CPU"
    return "fp32", f"a convolution runs only {speedup:.1f}x as fast in bf16 on this CPU"


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Seconds of the fastest of five 3x3 convolutions, 128 to 128 channels at 16x16, batch 64."""
    convolution = nn.Conv2d(128, 128, 3, padding=1, bias=False)
    convolution = convolution.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.ones(64, 128, 16, 16, dtype=dtype).to(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        convolution(images)
        for _ in range(5):
            started = time.perf_counter()
            convolution(images)
            seconds.append(time.perf_counter() - started)
    return min(seconds)

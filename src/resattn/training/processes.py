"""Several processes that train one network together: who this one is, and what they agree on.

torchrun starts them, on one machine or on many (`launching.py`), and tells each its number in the environment.
"""

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from resattn.errors import ResattnError

Value = TypeVar("Value")
# How long processes wait for the first one, which may pack a folder or evaluate meanwhile. Where one dies, torchrun
# ends the others; where a machine is lost, nothing but this tells them.
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    `rank` is its number, from 0, among all `world` of them, `local_rank` that among the `local_world` of this machine;
    `restarts` says how often torchrun has started all of them anew.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    restarts: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        """How many machines there are; each has as many processes."""
        return self.world // self.local_world

    def require_even_shares(self, batch_size: int) -> None:
        """Raise ResattnError where the images of a batch cannot be divided evenly, and by the pairs that are mixed."""
        if self.world > 1 and batch_size % (2 * self.world):
            raise ResattnError(
                f"a batch of {batch_size} images cannot be divided among {self.world} processes pair by pair",
                f"choose a batch_size that is a multiple of {2 * self.world}",
            )


ALONE = Processes()


def this_process() -> Processes:
    """What torchrun says in the environment; one process alone where torchrun started none."""
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    return Processes(*(int(os.environ[name]) for name in names))


@contextmanager
def together(processes: Processes) -> Iterator[None]:
    """While entered, the processes of a run can reach each other: over gloo, and between GPUs over NCCL."""
    if processes.world == 1 or distributed.is_initialized():
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(processes.local_rank)
        backend = "cpu:gloo,cuda:nccl"
    store, rank, world = next(rendezvous("env://"))
    if processes.machines == 1:
        # torchrun's store outlives the processes, and would tell those it starts anew the addresses of the dead.
        store = PrefixStore(f"start {processes.restarts}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        raise ResattnError(
            "another process of this run is gone", "what it said itself tells why; then go on with --resume"
        ) from error
    finally:
        distributed.destroy_process_group()


def first_decides(decide: Callable[[], Value]) -> Value:
    """What `decide` returns, called in the first process alone, in all of them.

    Where it raises ResattnError, the first process does, and the others end with exit status 1 and without a word.
    """
    if _world() == 1:
        return decide()
    outcome: list[tuple[bool, Value | None]] = [(False, None)]
    if distributed.get_rank() > 0:
        distributed.broadcast_object_list(outcome)
    else:
        try:
            outcome = [(True, decide())]
        finally:
            distributed.broadcast_object_list(outcome)
    decided, value = outcome[0]
    if not decided:
        sys.exit(1)
    return value  # type: ignore[return-value]


def require_same(value: object, *, what: str, mend: str) -> None:
    """Raise ResattnError where some processes bring another `value` than the first; all must call this at one point.

    The first process raises it, `what` and the names of their machines, as `first_decides` does.
    """
    if _world() == 1:
        return
    brought: list[Any] = [None] * _world()
    distributed.all_gather_object(brought, (value, platform.node()))

    def check() -> None:
        if others := sorted({machine for other, machine in brought if other != value}):
            raise ResattnError(f"{what} on {', '.join(others)}", mend)

    first_decides(check)


def largest(number: int) -> int:
    """The largest of the numbers that the processes bring; all of them must call this at the same point."""
    if _world() == 1:
        return number
    numbers = torch.tensor([number])
    distributed.all_reduce(numbers, distributed.ReduceOp.MAX)
    return int(numbers)


def mean(values: Tensor) -> Tensor:
    """The mean over the processes of a tensor that each brings."""
    if _world() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / _world()


def average_gradients(network: nn.Module) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    if _world() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    averaged = mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    parts = torch.split(averaged, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


def _world() -> int:
    together_now = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together_now else 1

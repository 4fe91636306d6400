"""How many bytes does a step of data-parallel training send, and what does one process compute in a second?

Two processes train together as `resattn train --devices 2` does: DistributedDataParallel, synchronised batch
normalisation, gloo. They have a network of their own (a namespace, made with `unshare`; it needs root), whose
loopback interface the kernel counts: what a step sends is the difference, headers included, halved because two send.
Messages are the calls of all_reduce, the buckets of gradients among them. Speed is one process alone with all threads.
`cluster_prediction.py` computes with what this writes.

    python benchmarks/communication.py
"""

import measuring

measuring.like_the_command()

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from resattn.data.batches import Batch
from resattn.hardware import choose_execution, keep_freed_memory
from resattn.models import create_model
from resattn.models.cost import multiply_accumulates, parameters
from resattn.training.optimization import make_optimizer
from resattn.training.recipe import Optimization
from resattn.training.synchronized_norm import synchronize_norms
from resattn.training.task import training_loss

# Model, side of the images, images of a process.
NETWORKS = {
    "short": (("resattn_mini", 32, 8),),
    "long": (("resattn_mini", 64, 64), ("resattn_small", 64, 64), ("resattn_56", 224, 8)),
}
WARMUP = 2


class Steps:
    """Training steps on one batch of noise, alone or beside others."""

    def __init__(self, model: str, side: int, images: int, *, together: bool) -> None:
        keep_freed_memory()
        torch.manual_seed(0)
        self.execution = choose_execution()
        self.network: nn.Module = create_model(model).to(memory_format=self.execution.memory_format)  # type: ignore[call-overload]
        if together:
            synchronize_norms(self.network, self.execution.device)
        self.optimizer = make_optimizer(self.network, Optimization(optimizer="sgd"))
        pixels = torch.rand(images, 3, side, side).to(memory_format=self.execution.memory_format)
        labels = torch.arange(images)
        self.batch = Batch(pixels, labels, labels, 1.0)
        if together:
            self.network = DistributedDataParallel(self.network, broadcast_buffers=False)

    def step(self) -> None:
        """One step."""
        loss, _ = training_loss(self.network, self.batch, self.execution, 0.1)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def sent_bytes() -> int:
    """What the loopback interface of this namespace has sent so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (line,) = (line for line in lines if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def speed(cell: dict[str, Any]) -> dict[str, float]:
    """Images a second of one process alone."""
    steps = Steps(cell["model"], cell["side"], cell["images"], together=False)
    for _ in range(WARMUP):
        steps.step()
    began = time.perf_counter()
    for _ in range(cell["steps"]):
        steps.step()
    return {"images_per_second": cell["images"] * cell["steps"] / (time.perf_counter() - began)}


def traffic(cell: dict[str, Any]) -> dict[str, float]:
    """As rank `rank` of two: bytes a process sends in a step, and messages."""
    if cell["rank"] == 0:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        other = [sys.executable, __file__, "--cell", json.dumps(cell | {"rank": 1})]
        rival = subprocess.Popen(other, stdout=subprocess.DEVNULL)
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
    distributed.init_process_group("gloo", rank=cell["rank"], world_size=2)
    steps = Steps(cell["model"], cell["side"], cell["images"], together=True)
    calls = 0
    reduce = distributed.all_reduce

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return reduce(*arguments, **options)

    for _ in range(WARMUP):
        steps.step()
    distributed.all_reduce = counted
    distributed.barrier()
    before = sent_bytes()
    for _ in range(cell["steps"]):
        steps.step()
    distributed.barrier()
    after = sent_bytes()
    buckets = steps.network._get_ddp_logging_data()["bucket_sizes"]  # type: ignore[operator]
    distributed.destroy_process_group()
    if cell["rank"] == 0:
        rival.wait()
    return {
        "bytes": (after - before) / 2 / cell["steps"],
        "messages": calls / cell["steps"] + len(str(buckets).split(",")),
    }


def measure_cell(cell: dict[str, Any]) -> dict[str, float]:
    """Speed or traffic."""
    return traffic(cell) if "rank" in cell else speed(cell)


def in_a_network_of_its_own(cell: dict[str, Any]) -> Any:
    """The cell's result, its processes seeing no network but their own loopback."""
    command = ["unshare", "--net", sys.executable, __file__, "--cell", json.dumps(cell)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    """Print bytes, messages and images/s for each network."""
    parser = measuring.arguments(__doc__)
    options = measuring.parse(parser, argv, "communication")
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        raise SystemExit("this needs root, unshare and iproute2, for a network whose bytes are counted")
    found = measuring.machine()
    form = "short" if options.short else "long"
    rounds, steps = (1, 2) if options.short else (3, 5)
    results = {}
    for model, side, images in NETWORKS[form]:
        cell = {"model": model, "side": side, "images": images, "steps": steps}
        contestants = {
            "speed": partial(measuring.in_fresh_process, __file__, cell),
            "traffic": partial(in_a_network_of_its_own, cell | {"rank": 0}),
        }
        turns = measuring.alternate(contestants, rounds)
        with torch.device("meta"):
            network = create_model(model)
        results[model] = {
            "side": side,
            "parameters": parameters(network),
            "macs": multiply_accumulates(network, side),
            "norms": sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()),
            "images_per_second": measuring.Spread.of(
                [one["images_per_second"] for one in turns["speed"]]
            ).to_json(),
            **{
                kind: measuring.Spread.of([one[kind] for one in turns["traffic"]]).to_json()
                for kind in ("bytes", "messages")
            },
        }
    columns = ["network", "px", "parameters", "MB of them", "MB sent a step", "messages a step", "images/s"]
    rows = [
        [
            name,
            one["side"],
            f"{one['parameters']:,}",
            f"{4e-6 * one['parameters']:.1f}",
            f"{1e-6 * one['bytes']['median']:.1f}",
            f"{one['messages']['median']:.0f}",
            measuring.Spread(**one["images_per_second"]),
        ]
        for name, one in results.items()
    ]
    measuring.finish(options, __doc__, found, results, measuring.table(columns, rows))


if __name__ == "__main__":
    measuring.start(main, measure_cell)

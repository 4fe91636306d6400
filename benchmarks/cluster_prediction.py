"""How long would an epoch take on 1, 8 or 64 GPUs, for Tiny ImageNet, ImageNet-1k and ImageNet-21k?

A calculation and no measurement: nobody here has 64 GPUs. It starts from what `communication.py` measured (bytes and
messages of a step, in runs/benchmarks/communication.json) and from assumptions, each a named field of `Cluster` and
`DataSet` that the page lists. `--publish docs/scaling.md` writes the page.

    python benchmarks/communication.py && python benchmarks/cluster_prediction.py --publish docs/scaling.md
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring

GPUS = (1, 8, 64)
# What a forward and a backward pass cost together.
FORWARD_PASSES_A_STEP = 3
COLUMNS = ["network", "images", "data", "GPUs", "seconds an epoch", "of perfect scaling", "limited by"]


@dataclass(frozen=True)
class Cluster:
    """What is assumed of the machines."""

    gpu_tflops: float = 989.0
    """bf16 products of a GPU at its best, in TFLOP/s (NVIDIA H100 SXM, data sheet, dense)."""
    utilisation: float = 0.25
    """Share of them a convolutional network reaches (assumed; our CPU recipe reaches 0.7 of its own)."""
    gpus_a_machine: int = 8
    """GPUs that share a machine."""
    inside_gb_s: float = 200.0
    """All-reduce bandwidth of a GPU inside a machine, in GB/s (NVLink 4, about half of the data sheet's 450)."""
    between_gb_s: float = 40.0
    """Bandwidth of a machine's network for each of its GPUs, in GB/s (400 Gbit/s a GPU, four fifths of it)."""
    inside_us: float = 10.0
    """Latency of a small message inside a machine, in microseconds."""
    between_us: float = 30.0
    """Latency of a small message between machines, in microseconds, for each doubling of their number."""
    hidden: float = 0.7
    """Share of the gradients' exchange that happens while the backward pass still computes."""
    cores_a_gpu: int = 12
    """Processor cores that decode and augment for each GPU."""
    images_a_core: float = 250.0
    """JPEGs of ImageNet's size that a core decodes and resizes to 224 px in a second (assumed)."""


@dataclass(frozen=True)
class DataSet:
    """Images, and whether they have to be decoded in every epoch (packed ones do not)."""

    name: str
    images: int
    decoded: bool


DATA_SETS = {
    64: (DataSet("Tiny ImageNet", 100_000, False),),
    224: (DataSet("ImageNet-1k", 1_281_167, True), DataSet("ImageNet-21k", 14_197_122, True)),
}
BATCH = {64: 256, 224: 128}  # images of a GPU


@dataclass(frozen=True)
class Prediction:
    """Of one network on one data set with so many GPUs: seconds an epoch, share of perfect scaling, what limits it."""

    gpus: int
    seconds: float
    efficiency: float
    limit: str


def step_seconds(network: Mapping[str, Any], batch: int, gpus: int, cluster: Cluster) -> tuple[float, str]:
    """Seconds of a step on `gpus` GPUs with `batch` images each, and what takes the longest."""
    flops = 2 * FORWARD_PASSES_A_STEP * network["macs"] * batch
    computing = flops / (cluster.gpu_tflops * 1e12 * cluster.utilisation)
    if gpus == 1:
        return computing, "computing"
    machines = math.ceil(gpus / cluster.gpus_a_machine)
    # A ring sends 2 (n - 1) / n of the gradients; two processes, which were measured, send them once.
    ring = network["bytes"]["median"] * 2 * (gpus - 1) / gpus
    bandwidth = cluster.inside_gb_s if machines == 1 else cluster.between_gb_s
    gradients = ring / (bandwidth * 1e9)
    latency = cluster.inside_us + (cluster.between_us * math.log2(machines) if machines > 1 else 0)
    norms = (
        4 * network["norms"] * latency * 1e-6
    )  # two messages forward, two backward, and nothing hides them
    exposed = max(0.0, gradients - min(cluster.hidden * gradients, computing * 2 / FORWARD_PASSES_A_STEP))
    parts = {"computing": computing, "normalisation's messages": norms, "the gradients' exchange": exposed}
    return sum(parts.values()), max(parts, key=lambda part: parts[part])


def predict(network: Mapping[str, Any], data: DataSet, cluster: Cluster) -> list[Prediction]:
    """One prediction for each number of GPUs."""
    batch = BATCH[network["side"]]
    found: list[Prediction] = []
    for gpus in GPUS:
        step, limit = step_seconds(network, batch, gpus, cluster)
        speed = gpus * batch / step
        decoding = gpus * cluster.cores_a_gpu * cluster.images_a_core
        if data.decoded and decoding < speed:
            speed, limit = decoding, "decoding"
        alone = found[0] if found else None
        seconds = data.images / speed
        found.append(Prediction(gpus, seconds, alone.seconds / (seconds * gpus) if alone else 1.0, limit))
    return found


def table(results: Mapping[str, Any], cluster: Cluster) -> list[list[str]]:
    """A row for each network, data set and number of GPUs."""
    return [
        [
            name,
            f"{network['side']} px",
            data.name,
            f"{one.gpus}",
            f"{one.seconds:,.3g}" if one.seconds < 100 else f"{one.seconds:,.0f}",
            f"{one.efficiency:.0%}",
            one.limit,
        ]
        for name, network in results.items()
        for data in DATA_SETS[network["side"]]
        for one in predict(network, data, cluster)
    ]


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(measured: Mapping[str, Any], cluster: Cluster) -> str:
    """docs/scaling.md."""
    machine, results = measured["machine"], measured["results"]
    described = attribute_docs(Cluster)
    assumed = [[f"`{name}`", f"{getattr(cluster, name):g}", text] for name, text in described.items()]
    inputs = [measured_row(name, one) for name, one in results.items()]
    return PAGE.format(
        cpu=machine["cpu"],
        cores=machine["cores"],
        commit=str(machine["commit"])[:7],
        inputs=markdown(
            [
                "network",
                "images",
                "parameters",
                "MACs",
                "normalisations",
                "sent a step",
                "messages a step",
                "images/s, one process here",
            ],
            inputs,
        ),
        assumed=markdown(["assumption", "value", "what it is"], assumed),
        batches=", ".join(f"{batch} images of {side} px" for side, batch in BATCH.items()),
        predicted=markdown(COLUMNS, table(results, cluster)),
    )


def measured_row(name: str, one: Mapping[str, Any]) -> list[str]:
    """A network's line of the table of what was measured."""
    speed = {edge: f"{value:,.1f}" for edge, value in one["images_per_second"].items()}
    return [
        f"`{name}`",
        f"{one['side']} px",
        f"{one['parameters']:,}",
        f"{one['macs'] / 1e9:.3f} G",
        f"{one['norms']}",
        f"{one['bytes']['median'] / 1e6:.1f} MB",
        f"{one['messages']['median']:.0f}",
        f"{speed['median']} ({speed['low']}..{speed['high']})",
    ]


def attribute_docs(kind: type) -> dict[str, str]:
    """The line under each field of a dataclass in its source."""
    import ast
    import inspect

    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    pairs = zip(definition.body, definition.body[1:], strict=False)
    return {
        field.target.id: text.value.value
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }  # fmt: skip


PAGE = """# More GPUs than we have

Written by `python benchmarks/cluster_prediction.py --publish docs/scaling.md`; do not edit. **What follows is
computed, not measured**: from the first table, which is, and from the assumptions in the second. `resattn train
--devices --nodes` itself is tested with two processes, and with two hosts that are network namespaces of one machine.

## Measured

`python benchmarks/communication.py`, long form, on {cores} cores of {cpu}, commit {commit}: two processes, gloo,
synchronised batch normalisation. "Sent" is what one process sends in a step, as the kernel counts it, headers included.

{inputs}

## Assumed

{assumed}

Batches of a GPU: {batches}. Forward and backward pass cost three forward passes. Gradients go round one ring over all
GPUs at the bandwidth of its slowest part. Each normalisation waits for four small messages a step, and nothing hides
them.

## Computed

{predicted}
"""


def main(argv: list[str] | None = None) -> None:
    """Print the predictions; write the page where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measured", type=Path, default=measuring.RESULTS / "communication.json")
    parser.add_argument("--publish", type=Path, metavar="FILE")
    for name, text in attribute_docs(Cluster).items():
        kind = type(getattr(Cluster(), name))
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=getattr(Cluster(), name), help=text
        )
    options = parser.parse_args(argv)
    if not options.measured.is_file():
        raise SystemExit(f"{options.measured} is not there; write it with python benchmarks/communication.py")
    measured = json.loads(options.measured.read_text())
    cluster = Cluster(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Cluster)})
    print(measuring.table(COLUMNS, table(measured["results"], cluster)))
    if options.publish:
        options.publish.write_text(page(measured, cluster), encoding="utf-8")


if __name__ == "__main__":
    main()

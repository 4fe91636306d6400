"""What accuracy does the same training time give, ours against what a user would do instead?

Claim: on a laptop's cores `resattn train` reaches several times the top-1 of the usual choice in the same minutes.

Ours is the real command, `resattn train --recipe NAME --time MINUTES`, in a process of its own, and the figure is that
of its results.json. The peers are what a user would write, in plain torch and in a fresh process each: torchvision's
ImageFolder with random crop, flip and normalisation, a DataLoader with two workers, float32, SGD with Nesterov momentum
under torch's one-cycle schedule, which cycles the momentum, too, and whose number of steps is measured to fit the same
time: as it comes, not tuned. Both report their training time without validations; the accuracy is single-view top-1 and
top-5 on the validation split (Tiny ImageNet's official one). Contestants take turns, seed 0, seed 1, ...; every
finished one is written to the JSON file at once, and a benchmark that was killed goes on from there (delete the file to
begin anew). Beside the table a figure shows accuracy against minutes, as validations on the way found it; those of ours
see averaged weights.

    python benchmarks/accuracy_at_equal_time.py --recipe laptop-20m --archive tiny-imagenet-200.zip
"""

import measuring

measuring.like_the_command()

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from resattn import figures
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.training.history import read_history
from resattn.training.recipe import find_recipe
from resattn.training.run_folder import RunFolder
from usual_pipeline import image_folder, usual_loader

OURS = "resattn"
MOMENTUM, WEIGHT_DECAY, LARGEST_RATE = 0.9, 5e-4, 0.2
WORKERS = 2
# Enough steps that the loader's workers are not ahead by what they had made before.
WARMUP, TIMED_STEPS = 5, 50
VALIDATIONS = 4
# So that measuring the speed does not outlast a budget of seconds.
SHORT_OPTIONS = ("--batch-size", "64", "--start-scale", "1", "--validations", "1")


def timm_resnet18(classes: int) -> nn.Module:
    """timm's ResNet-18 as it is."""
    network: nn.Module = timm.create_model("resnet18", num_classes=classes)
    return network


def torchvision_resnet18_small_images(classes: int) -> nn.Module:
    """torchvision's ResNet-18 with the stem for small images: a 3x3 convolution, no pooling; 15 times the work."""
    network: nn.Module = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


PEERS: dict[str, Callable[[int], nn.Module]] = {
    "timm-resnet18": timm_resnet18,
    "torchvision-resnet18-3x3": torchvision_resnet18_small_images,
}


def endless(loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader's batches, epoch after epoch."""
    while True:
        yield from loader


def train_peer(cell: dict[str, Any]) -> dict[str, Any]:
    """Train a peer for the time given, in this process, and measure it on the validation split."""
    torch.manual_seed(cell["seed"])
    loader = partial(
        usual_loader, Path(cell["folder"]), side=cell["side"], batch_size=cell["batch_size"], workers=WORKERS
    )
    batches = endless(loader(split="train"))
    make = partial(PEERS[cell["name"]], cell["classes"])
    steps = max(1, int(60 * cell["minutes"] / seconds_a_step(make(), batches)))
    network = make().train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LARGEST_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LARGEST_RATE, total_steps=steps)
    seconds, done, curve, reached = 0.0, 0, [], {}
    for part in range(1, VALIDATIONS + 1):
        started = time.perf_counter()
        for _ in range(steps * part // VALIDATIONS - done):
            train_step(network, optimizer, *next(batches))
            schedule.step()
        seconds += time.perf_counter() - started
        done = steps * part // VALIDATIONS
        reached = accuracy(network, loader(split="val"))
        network.train()
        curve.append([seconds, reached["top1"]])
    images = steps * cell["batch_size"]
    return {**reached, "train_seconds": seconds, "steps": steps, "images": images, "curve": curve}


def seconds_a_step(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    """Seconds of a training step with its batch, on a network that is thrown away."""
    optimizer = torch.optim.SGD(network.train().parameters(), lr=1e-3, momentum=MOMENTUM, nesterov=True)
    for _ in range(WARMUP):
        train_step(network, optimizer, *next(batches))
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        train_step(network, optimizer, *next(batches))
    return (time.perf_counter() - started) / TIMED_STEPS


def train_step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """Forward, backward, update."""
    loss = functional.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def accuracy(network: nn.Module, loader: Any) -> dict[str, float]:
    """Top-1 and top-5 of a single view, as fractions of 1."""
    network.eval()
    hits = torch.zeros(5)
    seen = 0
    with torch.inference_mode():
        for images, labels in loader:
            likeliest = network(images).topk(5).indices
            hits += (likeliest == labels[:, None]).sum(0)
            seen += len(labels)
    return {"top1": hits[0].item() / seen, "top5": hits.sum().item() / seen}


def train_ours(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """Run the real command, or let it go on with a run that was killed; what its folder says."""
    run = RunFolder(folder / f"seed{seed}")
    command = [sys.executable, "-m", "resattn", "train", "--run-dir", str(run.path)]
    if run.recipe_file.exists():
        command += ["--resume"]
    else:
        command += ["--recipe", options.recipe] if options.recipe else ["--model", options.model]
        command += ["--data", options.data, "--time", f"{60 * options.minutes:g}s", "--seed", str(seed)]
        command += SHORT_OPTIONS if options.short else ()
    if not run.results_file.exists():
        subprocess.run(command, check=True)
    return what_it_reached(run)


def what_it_reached(run: RunFolder) -> dict[str, Any]:
    """A contestant's figures, of a finished run."""
    results = json.loads(run.results_file.read_text())
    rows = read_history(run.metrics_file)
    last = {column: values[-1] for column, values in rows.items()}
    validated = np.flatnonzero(~np.isnan(rows["val_top1"]))
    return {
        "top1": results["top1"],
        "top5": results["top5"],
        "train_seconds": last["seconds"],
        "steps": int(last["step"]),
        "images": int(last["images"]),
        "curve": [[float(rows["seconds"][row]), float(rows["val_top1"][row])] for row in validated],
    }


def contestant(
    options: argparse.Namespace, name: str, seed: int, folder: Path
) -> Callable[[], dict[str, Any]]:
    """What trains and measures one contestant with one seed; our runs lie in `folder`."""
    if name == OURS:
        return partial(train_ours, options, seed, folder)
    split = open_split(options.data, "train")
    cell = {
        "name": name,
        "seed": seed,
        "minutes": options.minutes,
        "batch_size": options.peer_batch_size,
        "folder": str(image_folder(options.data, archive=options.archive)),
        "side": split.images.shape[1],
        "classes": len(split.class_ids),
    }
    return partial(measuring.in_fresh_process, __file__, cell, settings=measuring.USER_SETTINGS)


def results_so_far(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """What an earlier start with the same settings has finished; a new beginning otherwise, and for --short."""
    if options.short or not options.json.exists():
        runs = options.json.with_suffix("") / time.strftime("%Y%m%d-%H%M%S")
        return {"runs": str(runs), "finished": []}
    record = json.loads(options.json.read_text())
    if {**record["settings"], "repeats": 0} != {**settings, "repeats": 0}:
        raise SystemExit(f"{options.json} holds another benchmark's results: move it, or name another --json")
    results: dict[str, Any] = record["results"]
    return results


def measure(options: argparse.Namespace, record: dict[str, Any]) -> None:
    """Every contestant with every seed that is not measured yet, in turn; the file is written after each."""
    done: list[dict[str, Any]] = record["results"]["finished"]
    folder = Path(record["results"]["runs"])
    measuring.write_json(options.json, record)
    for seed in range(options.repeats):
        for name in (OURS, *options.peers):
            if not any(entry["name"] == name and entry["seed"] == seed for entry in done):
                measuring.say(f"{name}, seed {seed}: {options.minutes:g} minutes")
                reached = contestant(options, name, seed, folder)()
                done.append({"name": name, "seed": seed, "commit": record["machine"]["commit"], **reached})
                measuring.write_json(options.json, record)


def shown(done: list[dict[str, Any]]) -> str:
    """One line a contestant."""
    names = list(dict.fromkeys(entry["name"] for entry in done))
    top1 = {name: [entry["top1"] for entry in done if entry["name"] == name] for name in names}
    columns = ["contestant", "top-1", "lowest..highest", "top-5", "training", "images", "ours is ... times"]
    rows = []
    for name in names:
        entries = [entry for entry in done if entry["name"] == name]
        middle = {
            key: statistics.median(entry[key] for entry in entries)
            for key in ("top1", "top5", "train_seconds", "images")
        }
        rows.append(
            [
                name,
                f"{middle['top1']:.2%}",
                f"{min(top1[name]):.2%}..{max(top1[name]):.2%}",
                f"{middle['top5']:.2%}",
                f"{middle['train_seconds'] / 60:.1f} min",
                f"{middle['images']:,.0f}",
                measuring.ratios(top1[OURS], top1[name]) if min(top1[name]) > 0 else "-",
            ]
        )
    return measuring.table(columns, rows)


def drawn(done: list[dict[str, Any]], options: argparse.Namespace, found: dict[str, Any]) -> Figure:
    """Accuracy against minutes of training, a curve for each contestant with a band over its seeds."""
    curves: dict[str, list[Any]] = {}
    for entry in done:
        seconds, top1 = np.array(entry.get("curve", []), dtype=np.float64).reshape(-1, 2).T
        curves.setdefault(entry["name"], []).append((seconds / 60, 100 * top1))
    seeds = len({entry["seed"] for entry in done})
    return figures.curves_by_arm(
        curves,
        horizontal="minutes of training",
        vertical="top-1 on the validation split (%)",
        title=f"{options.data}: what the same minutes give",
        subtitle=f"{found['cores']} cores of {found['cpu']}, {seeds} seed{'s' if seeds > 1 else ''}, single view",
    )


def options_of(argv: list[str] | None) -> argparse.Namespace:
    """The options; a recipe that is not there falls back to --model."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--data", default="tiny-imagenet")
    parser.add_argument("--archive", type=Path, help="Tiny ImageNet's archive, unpacked the first time")
    parser.add_argument("--recipe", default="laptop-20m", help="a recipe's file or name")
    parser.add_argument("--model", default="resattn_mini", help="ours where there is no such recipe")
    parser.add_argument("--minutes", type=float, help="training time of each (20; short: 0.2)")
    parser.add_argument("--repeats", type=int, help="seeds (3; short: 1)")
    parser.add_argument("--peers", nargs="+", choices=tuple(PEERS), default=["timm-resnet18"])
    parser.add_argument("--peer-batch-size", type=int, default=128)
    options = measuring.parse(parser, argv, "accuracy_at_equal_time")
    options.minutes = options.minutes or (0.2 if options.short else 20.0)
    options.repeats = options.repeats or (1 if options.short else 3)
    try:
        find_recipe(options.recipe)
    except ResattnError as error:
        measuring.say(f"{error.what}: {options.model} with the defaults")
        options.recipe = None
    return options


def main(argv: list[str] | None = None) -> None:
    """Print a line for each contestant."""
    options = options_of(argv)
    found = measuring.machine()
    record = measuring.record(options, __doc__, found, {})
    record["results"] = results_so_far(options, record["settings"])
    measure(options, record)
    done = record["results"]["finished"]
    figures.save(drawn(done, options, found), options.json.with_suffix(".png"))
    measuring.finish(options, __doc__, found, record["results"], shown(done))


if __name__ == "__main__":
    measuring.start(main, train_peer)

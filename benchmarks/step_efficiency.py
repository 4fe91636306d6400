"""How much of the machine's own speed does a training step reach, and where does its time go?

Claim: the flagship's training step computes at a large share of what the same cores reach in nothing but products
of matrices.

The step is the real one (batch, forward, backward, optimizer, weight average) on prepared data, at every image size
of the run. Its speed counts the arithmetic of convolutions and linear layers, 3 x 2 x multiply-accumulates an image
(forward, gradient of the input, gradient of the weights), over the time of everything. The peer is torch's product
of two 2048 x 2048 matrices in each number format that is worth trying; its fastest is the peak. Steps and products
take turns in one process. The table of operators is of one step at the last size, by torch.profiler; shares are of
the time the operators took themselves.

    python benchmarks/step_efficiency.py --data tiny-imagenet --recipe laptop-20m
"""

import measuring

measuring.like_the_command()

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.profiler import ProfilerActivity, profile, record_function

from resattn.data.packed import open_split
from resattn.hardware import choose_execution, keep_freed_memory
from resattn.models import create_model
from resattn.models.cost import multiply_accumulates
from resattn.training.job import training_batches
from resattn.training.optimization import make_optimizer
from resattn.training.recipe import Recipe, find_recipe
from resattn.training.task import training_loss

PARTS = ("batch", "forward", "backward", "optimizer", "average")
WARMUP = 1
BATCHES = 1000
PRODUCT_SIDE = 2048
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OPERATORS = {
    "convolution, backward": ("convolution_backward",),
    "convolution, forward": ("conv",),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "add, multiply": ("aten::add", "aten::mul", "aten::sub", "aten::div"),
}
GROUPS = (*OPERATORS, "optimizer", "average", "batch", "other")


class Steps:
    """Training steps of a recipe as its run would do them, as a run of 1000 batches."""

    def __init__(self, recipe: Recipe) -> None:
        keep_freed_memory()
        split = open_split(recipe.data, "train")
        self.recipe = recipe
        self.execution = choose_execution(recipe.precision)
        self.batches = training_batches(recipe, split, count=BATCHES)
        options: dict[str, Any] = dict(recipe.model_options)
        network = create_model(recipe.model, num_classes=len(split.class_ids), **options)
        self.network = network.to(memory_format=self.execution.memory_format)
        self.network.to(self.execution.device)
        self.optimizer = make_optimizer(self.network, recipe.optimization, products=self.execution.precision)
        average = get_ema_multi_avg_fn(0.99)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self.sizes = Counter(self.batches.size(number) for number in range(BATCHES))

    def step(self, number: int) -> dict[str, float]:
        """Do step `number`: the seconds of each part."""
        marks = [time.perf_counter()]
        with record_function("batch"):
            batch = self.batches.batch(number)
        marks.append(time.perf_counter())
        loss, _ = training_loss(self.network, batch, self.execution, self.recipe.label_smoothing)
        marks.append(time.perf_counter())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        marks.append(time.perf_counter())
        with record_function("optimizer"):
            self.optimizer.step()
        marks.append(time.perf_counter())
        with record_function("average"):
            self.average.update_parameters(self.network)
        marks.append(time.perf_counter())
        return {part: end - begin for part, begin, end in zip(PARTS, marks, marks[1:], strict=False)}

    def first_of(self, size: int) -> int:
        """The first batch of the run whose images have this size."""
        return next(number for number in range(BATCHES) if self.batches.size(number) == size)

    def timed(self, size: int, steps: int) -> dict[str, float]:
        """Median seconds of each part over `steps` steps at an image size."""
        first = self.first_of(size)
        done = [self.step(first) for _ in range(WARMUP + steps)][WARMUP:]
        return {part: statistics.median(step[part] for step in done) for part in PARTS}

    def arithmetic(self, size: int) -> int:
        """Floating-point operations of a step: forward and two gradients, two a multiply-accumulate."""
        return 3 * 2 * multiply_accumulates(self.network, size) * self.recipe.batch_size

    def operators(self, size: int) -> dict[str, float]:
        """The share of each group of operators in the time of one step at an image size."""
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            self.step(self.first_of(size))
        seconds: dict[str, float] = defaultdict(float)
        for event in profiler.events():
            seconds[group_of(event)] += event.self_cpu_time_total
        whole = sum(seconds.values())
        return {group: seconds[group] / whole for group in GROUPS}


def group_of(event: Any) -> str:
    """The part of the step the profiler's event is in, or else the kind of operator it is."""
    parent = event
    while parent is not None:
        if parent.name in ("batch", "optimizer", "average"):
            return str(parent.name)
        parent = parent.cpu_parent
    for group, words in OPERATORS.items():
        if any(word in event.name for word in words) and event.name.startswith("aten::"):
            return group
    return "other"


def product_speed(dtype: torch.dtype, side: int) -> float:
    """Operations a second of the fastest of three square matrix products."""
    left, right = (torch.rand(side, side).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds[1:])


def formats_worth_trying() -> dict[str, torch.dtype]:
    """The number formats whose small product is not hopelessly slower than float32's."""
    reference = product_speed(torch.float32, 256)
    return {name: dtype for name, dtype in FORMATS.items() if product_speed(dtype, 256) > 0.05 * reference}


def measure(steps: Steps, *, rounds: int, count: int, side: int) -> dict[str, Any]:
    """Products in every format and steps at every size, in turn; speeds, parts and operators."""
    formats = formats_worth_trying()
    contestants: dict[str, Callable[[], Any]] = {
        f"{name} products": partial(product_speed, dtype, side) for name, dtype in formats.items()
    }
    contestants |= {f"steps at {size} px": partial(steps.timed, size, count) for size in steps.sizes}
    turns = measuring.alternate(contestants, rounds)
    products = {name: turns[f"{name} products"] for name in formats}
    timings = {size: turns[f"steps at {size} px"] for size in steps.sizes}
    peaks = {name: max(values) for name, values in products.items()}
    last = max(steps.sizes)
    return {
        "precision": steps.execution.precision,
        "batch_size": steps.recipe.batch_size,
        "products": products,
        "peaks": peaks,
        "sizes": {str(size): size_record(steps, size, timings[size], peaks) for size in steps.sizes},
        "run": run_record(steps, timings, peaks),
        "operators": {"size": last, "shares": steps.operators(last)},
    }


def size_record(
    steps: Steps, size: int, timings: list[dict[str, float]], peaks: dict[str, float]
) -> dict[str, Any]:
    """Speed and parts of the steps at one size."""
    speeds = [steps.arithmetic(size) / sum(parts.values()) for parts in timings]
    return {
        "share_of_run": steps.sizes[size] / BATCHES,
        "images_per_second": measuring.Spread.of(
            [steps.recipe.batch_size / sum(parts.values()) for parts in timings]
        ).to_json(),
        "operations_per_second": measuring.Spread.of(speeds).to_json(),
        "share_of_peak": {
            name: measuring.Spread.of([speed / peak for speed in speeds]).to_json()
            for name, peak in peaks.items()
        },
        "seconds": {part: statistics.median(parts[part] for parts in timings) for part in PARTS},
    }


def run_record(
    steps: Steps, timings: dict[int, list[dict[str, float]]], peaks: dict[str, float]
) -> dict[str, Any]:
    """Speed over a whole run: the arithmetic of all its steps over the time they take."""
    work = sum(count * steps.arithmetic(size) for size, count in steps.sizes.items())
    speeds = [
        work / sum(count * sum(timings[size][turn].values()) for size, count in steps.sizes.items())
        for turn in range(len(next(iter(timings.values()))))
    ]
    return {
        "operations_per_second": measuring.Spread.of(speeds).to_json(),
        "share_of_peak": {
            name: measuring.Spread.of([speed / peak for speed in speeds]).to_json()
            for name, peak in peaks.items()
        },
    }


def shown(results: dict[str, Any]) -> str:
    """The tables: peaks, efficiency at each size and over the run, parts, operators."""
    peaks = results["peaks"]
    best = max(peaks, key=lambda name: peaks[name])
    compared = list(dict.fromkeys([best, *(name for name in ("bf16", "fp32") if name in peaks)]))
    peak_rows = [[name, f"{peak / 1e9:.0f}"] for name, peak in peaks.items()]
    sizes = {f"{size} px": record for size, record in results["sizes"].items()}
    rows = [
        [
            name,
            f"{record['share_of_run']:.0%}" if "share_of_run" in record else "all",
            f"{record['images_per_second']['median']:.0f}" if "images_per_second" in record else "",
            f"{record['operations_per_second']['median'] / 1e9:.0f}",
            *(percentages(record["share_of_peak"][other]) for other in compared),
        ]
        for name, record in {**sizes, "whole run": results["run"]}.items()
    ]
    columns = ["step", "of the run", "images/s", "GFLOP/s", *(f"of {name} products" for name in compared)]
    parts = [
        [part, *(f"{1000 * record['seconds'][part]:.0f} ms" for record in sizes.values())] for part in PARTS
    ]
    operators = [[group, f"{share:.1%}"] for group, share in results["operators"]["shares"].items()]
    tables = (
        measuring.table(["matrix products", "GFLOP/s"], peak_rows),
        measuring.table(columns, rows),
        measuring.table(["part of the step", *sizes], parts),
        measuring.table([f"operators at {results['operators']['size']} px", "share"], operators),
    )
    return "\n\n".join(tables)


def percentages(spread: dict[str, float]) -> str:
    """A share with its spread."""
    return f"{spread['median']:.0%} ({spread['low']:.0%}..{spread['high']:.0%})"


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe named, with the data and model that were given."""
    recipe = Recipe.from_yaml(find_recipe(options.recipe)) if options.recipe else Recipe(data="tiny-imagenet")
    given = {name: getattr(options, name) for name in ("data", "model", "batch_size", "precision")}
    return recipe.replace(**{name: value for name, value in given.items() if value is not None})


def main(argv: list[str] | None = None) -> None:
    """Print peaks, efficiency, parts and operators."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--recipe", help="a recipe's file or name; resattn_mini's defaults where left out")
    parser.add_argument("--data")
    parser.add_argument("--model")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--product-side", type=int, default=PRODUCT_SIDE)
    options = measuring.parse(parser, argv, "step_efficiency")
    found = measuring.machine()
    rounds, count = (2, 1) if options.short else (5, 4)
    steps = Steps(chosen_recipe(options))
    results = measure(steps, rounds=rounds, count=count, side=options.product_side)
    measuring.finish(options, __doc__, found, results, shown(results))


if __name__ == "__main__":
    main()

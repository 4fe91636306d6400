"""What does one busy neighbour cost a training step, and does it help if waiting threads sleep sooner?

Steps at the first image size, alone and beside one process that keeps a core busy, for several limits on how long GNU
OpenMP's threads spin before they sleep: the library's own, what the `resattn` command sets, and none. Every measurement
is a fresh process; the limits take turns. Run it on idle cores:

    python benchmarks/busy_neighbour.py --data shapes
"""

import measuring

measuring.like_the_command()

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

LIMITS = {
    "the library's own": measuring.USER_SETTINGS,
    "10000, the command's": measuring.COMMAND_SETTINGS,
    "0": {"GOMP_SPINCOUNT": "0"},
}


def measure_cell(cell: dict[str, Any]) -> float:
    """Median seconds of a training step in this process."""
    from resattn.training.recipe import Recipe
    from step_efficiency import Steps

    steps = Steps(Recipe(data=cell["data"], model=cell["model"]))
    return sum(steps.timed(min(steps.sizes), cell["steps"]).values())


def beside_a_neighbour(measure: Callable[[], float]) -> float:
    """What `measure` finds while another process keeps a core busy."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return measure()
    finally:
        neighbour.kill()
        neighbour.wait()


def main(argv: list[str] | None = None) -> None:
    """Print seconds a step for each limit."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--model", default="resattn_mini")
    options = measuring.parse(parser, argv, "busy_neighbour")
    found = measuring.machine()
    rounds, steps = (1, 2) if options.short else (5, 5)
    cell = {"data": options.data, "model": options.model, "steps": steps}
    contestants: dict[str, Callable[[], float]] = {}
    for limit, settings in LIMITS.items():
        alone = partial(measuring.in_fresh_process, __file__, cell, settings=settings)
        contestants[f"{limit}, alone"] = alone
        contestants[f"{limit}, beside a busy neighbour"] = partial(beside_a_neighbour, alone)
    turns = measuring.alternate(contestants, rounds)
    first = next(iter(turns))
    results = {
        name: {
            "seconds_a_step": measuring.Spread.of(values).to_json(),
            "times_the_first": measuring.ratios(values, turns[first]).to_json(),
        }
        for name, values in turns.items()
    }
    rows = [
        [name, *(measuring.Spread(**one[key]) for key in ("seconds_a_step", "times_the_first"))]
        for name, one in results.items()
    ]
    table = measuring.table(["spin limit", "seconds a step", "times the first"], rows)
    measuring.finish(options, __doc__, found, results, table)


if __name__ == "__main__":
    measuring.start(main, measure_cell)

"""What are huge pages worth to a training step, and who should ask for them: torch, or the C library?

Where the system gives huge pages to those who ask (`madvise`, the default of most distributions), nobody does. The
settings take turns, each measurement in a fresh process: none, THP_MEM_ALLOC_ENABLE (torch, for tensors of 2 MiB and
more), glibc's tunable glibc.malloc.hugetlb (every allocation), and both. Run it on idle cores:

    python benchmarks/huge_pages.py --data tiny-imagenet --recipe laptop-20m
"""

import measuring

measuring.like_the_command()

from functools import partial
from pathlib import Path
from typing import Any

TORCH = {"THP_MEM_ALLOC_ENABLE": "1"}
GLIBC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
SPINS = {"GOMP_SPINCOUNT": "10000"}
SETTINGS = {"none": {}, "torch's": TORCH, "glibc's": GLIBC, "both": TORCH | GLIBC}


def measure_cell(cell: dict[str, Any]) -> dict[str, float]:
    """Seconds of a training step in this process, and the share of its memory that lies in huge pages."""
    from resattn.training.recipe import Recipe, find_recipe
    from step_efficiency import Steps

    recipe = Recipe.from_yaml(find_recipe(cell["recipe"])) if cell["recipe"] else Recipe()
    steps = Steps(recipe.replace(data=cell["data"]))
    seconds = sum(steps.timed(max(steps.sizes), cell["steps"]).values())
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return {"seconds": seconds, "huge": sizes["AnonHugePages"] / sizes["Anonymous"]}


def main(argv: list[str] | None = None) -> None:
    """Print seconds a step for each setting."""
    parser = measuring.arguments(__doc__)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--recipe", help="a recipe's file or name; resattn_mini's defaults where left out")
    options = measuring.parse(parser, argv, "huge_pages")
    found = measuring.machine()
    rounds, steps = (1, 2) if options.short else (5, 5)
    cell = {"data": options.data, "recipe": options.recipe, "steps": steps}
    contestants = {
        name: partial(measuring.in_fresh_process, __file__, cell, settings=SPINS | settings)
        for name, settings in SETTINGS.items()
    }
    turns = measuring.alternate(contestants, rounds)
    seconds = {name: [one["seconds"] for one in values] for name, values in turns.items()}
    results = {
        name: {
            "seconds_a_step": measuring.Spread.of(values).to_json(),
            "times_as_fast_as_none": measuring.ratios(seconds["none"], values).to_json(),
            "in_huge_pages": measuring.Spread.of([one["huge"] for one in turns[name]]).to_json(),
        }
        for name, values in seconds.items()
    }
    columns = ["asked for by", "seconds a step", "times as fast as none", "memory in huge pages"]
    keys = ("seconds_a_step", "times_as_fast_as_none", "in_huge_pages")
    rows = [[name, *(measuring.Spread(**one[key]) for key in keys)] for name, one in results.items()]
    measuring.finish(options, __doc__, found, results, measuring.table(columns, rows))


if __name__ == "__main__":
    measuring.start(main, measure_cell)

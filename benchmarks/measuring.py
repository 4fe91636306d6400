"""What every benchmark shares: taking turns, fresh processes, the machine, tables and JSON.

Contestants take turns (A B A B A B), because a machine's speed drifts; a ratio is formed within each turn, and
reported as the median with the smallest and the largest. A cell that needs a process of its own (allocator, threads,
peak memory) is the same script called as `SCRIPT --cell JSON`, whose last line of output is the cell's result.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

# What the `resattn` command sets for its own process, before torch is loaded.
COMMAND_SETTINGS: Mapping[str, str] = {"GOMP_SPINCOUNT": "10000"}
USER_SETTINGS: Mapping[str, str] = {}
RESULTS = Path("runs") / "benchmarks"


def like_the_command() -> None:
    """Set what the `resattn` command sets, unless it is set; call it before torch is imported.

    A cell has the settings that `in_fresh_process` gave it.
    """
    if sys.argv[1:2] == ["--cell"]:
        return
    for name, value in COMMAND_SETTINGS.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True)
class Spread:
    """The median of some measurements with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}..{self.high:.3g})"

    def to_json(self) -> dict[str, float]:
        """The three figures."""
        return asdict(self)


def ratios(of: Sequence[float], to: Sequence[float]) -> Spread:
    """How many times `to` is `of`, formed turn by turn."""
    return Spread.of([one / other for one, other in zip(of, to, strict=True)])


def alternate(contestants: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Let the contestants take turns `rounds` times: each one's results, in order."""
    results: dict[str, list[Result]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, measure in contestants.items():
            say(f"turn {turn + 1} of {rounds}: {name}")
            results[name].append(measure())
    return results


def in_fresh_process(
    script: str, cell: Mapping[str, Any], *, settings: Mapping[str, str] = COMMAND_SETTINGS
) -> Any:
    """Measure `cell` in a process of its own: `script --cell JSON`; returns what its `cell` function returned.

    `settings` are environment variables: the `resattn` command's own, or USER_SETTINGS for who does not use it. Errors
    go to the terminal; a cell that fails ends the benchmark.
    """
    environment = {name: value for name, value in os.environ.items() if name not in COMMAND_SETTINGS}
    environment.update(settings)
    command = [sys.executable, script, "--cell", json.dumps(cell)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the cell {dict(cell)} failed with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def start(main: Callable[[], None], cell: Callable[[dict[str, Any]], Any]) -> None:
    """Run a script: `cell` where it was called as a cell, else `main`."""
    if sys.argv[1:2] == ["--cell"]:
        print(json.dumps(cell(json.loads(sys.argv[2]))))
    else:
        main()


def arguments(question: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take: --short and --json."""
    parser = argparse.ArgumentParser(description=(question or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a minute or so: a look, not a result")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="runs/benchmarks/NAME.json or NAME-short.json"
    )
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None, name: str) -> argparse.Namespace:
    """The options of the benchmark `name`; a short form does not write over a long form's results."""
    options = parser.parse_args(argv)
    options.benchmark = name
    options.json = options.json or RESULTS / f"{name}{'-short' if options.short else ''}.json"
    return options


def machine() -> dict[str, Any]:
    """What the figures depend on: CPU, cores, threads, versions, commit, and the load before the benchmark."""
    from resattn.hardware import choose_execution, usable_cores
    from resattn.training.run_folder import environment

    found = environment(choose_execution())
    found["cores"] = usable_cores()
    found["load"] = round(os.getloadavg()[0], 2)
    return found


def describe(found: Mapping[str, Any]) -> str:
    """The machine in three lines."""
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['threads']} threads, load {found['load']} before it began\n"
        f"{found['precision']}\n"
        f"torch {found['versions']['torch']}, commit {found['commit']}"
    )


def peak_memory() -> int:
    """The largest resident set of this process so far, in bytes; pages of mapped files count where they were read."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands getrusage's figure on to new processes: a small child of a large parent would look as large.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def record(
    options: argparse.Namespace, question: str | None, found: Mapping[str, Any], results: Any
) -> dict[str, Any]:
    """What goes to the JSON file."""
    return {
        "benchmark": options.benchmark,
        "question": (question or "").splitlines()[0],
        "form": "short" if options.short else "long",
        "settings": {name: value for name, value in vars(options).items() if not isinstance(value, Path)},
        "machine": found,
        "results": results,
    }


def finish(
    options: argparse.Namespace,
    question: str | None,
    found: Mapping[str, Any],
    results: Any,
    shown: str,
) -> None:
    """Print the machine and the tables, and write the JSON."""
    whole = record(options, question, found, results)
    form = "short form: a look, not a result" if options.short else "long form"
    print(f"\n{whole['question']}\n{describe(found)}\n{form}\n\n{shown}", flush=True)
    write_json(options.json, whole)
    say(f"written to {options.json}")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file whole or not at all."""
    from resattn.files import whole_text_file

    with whole_text_file(path) as file:
        file.write(json.dumps(content, indent=2) + "\n")


def say(line: str) -> None:
    """Say how far the benchmark is."""
    print(line, file=sys.stderr, flush=True)

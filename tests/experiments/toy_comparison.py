"""A comparison of a few steps a run, for the tests to change: it is read from toy.yaml in the current folder."""

from pathlib import Path
from typing import Any

import yaml

from resattn.experiments.comparison import Comparison, read_comparison
from resattn.experiments.comparison_report import ComparisonReport

POOL = Path("runs/compare/runs")
TOY: dict[str, Any] = {
    "question": "Do masks help?",
    "fields": {
        "data": "dots",
        "model": "resattn_mini_plain",
        "steps": 5,
        "batch_size": 8,
        "validations": 2,
        "start_scale": 1.0,
        "precision": "fp32",
        "optimization": {"optimizer": "adamw", "lr": 0.001},
    },
    "control": "plain",
    "arms": {"masks": {"model": "resattn_mini"}},
    "equal": "steps",
    "seeds": 2,
}


def toy(**changes: Any) -> Comparison:
    """`TOY` with other fields, by its file."""
    Path("toy.yaml").write_text(yaml.safe_dump({**TOY, **changes}, sort_keys=False))
    return read_comparison(Path("toy.yaml"))


def states(report: ComparisonReport) -> list[tuple[str, int, str]]:
    """Arm, seed and state of every run."""
    return [(run.arm, run.seed, run.state) for run in report.runs]


def without_length() -> dict[str, Any]:
    """The fields, for a comparison that is held equal by something else than steps."""
    return {name: value for name, value in TOY["fields"].items() if name != "steps"}

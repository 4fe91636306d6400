"""Figures of a comparison as words: what its table, its page and its drawings say alike."""

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    "arm",
    "network",
    "parameters",
    "MACs",
    "runs",
    "steps",
    "minutes",
    "top-1 (%)",
    "top-5 (%)",
    "loss",
)


def arm_row(arm: Mapping[str, Any]) -> list[str]:
    """The cells of an arm, by `COLUMNS`; scores as mean ± standard deviation of a run."""
    return [
        arm["name"],
        arm["model"],
        f"{arm['parameters']:,}",
        f"{arm['macs'] / 1e9:.3f} G",
        str(arm["runs"]),
        _number(arm["steps"], "{:,.0f}"),
        _number(arm["minutes"], "{:.1f}"),
        _spread(arm["top1"], 100, "{:.2f}"),
        _spread(arm["top5"], 100, "{:.2f}"),
        _spread(arm["loss"], 1, "{:.3f}"),
    ]


def in_points(difference: Mapping[str, Any]) -> str:
    """A difference with its interval: "+1.20 [0.80, 1.55] against plain, won 2 of 3, tied 1"."""
    if not difference["pairs"]:
        return f"no seed in common with {difference['against']} yet"
    mean = f"{100 * difference['mean']:+.2f}"
    interval = ""
    if difference["low"] is not None and difference["high"] is not None:
        interval = f" [{100 * difference['low']:+.2f}, {100 * difference['high']:+.2f}]"
    tied = f", tied {difference['tied']}" if difference["tied"] else ""
    won = f"won {difference['won']} of {difference['pairs']}"
    return f"{mean}{interval} against {difference['against']}, {won}{tied}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _spread(mean: Mapping[str, Any], scale: float, form: str) -> str:
    if mean["mean"] is None:
        return "-"
    middle = form.format(scale * mean["mean"])
    if mean["deviation"] is None:
        return middle
    return f"{middle} ± {form.format(scale * mean['deviation'])}"


def short_commit(commit: str | None) -> str:
    """The first seven digits, with a plus where files were changed."""
    return "unknown" if not commit else commit[:7] + ("+" if commit.endswith("+") else "")

"""Figures of a comparison as words: what its table, its page and its drawings say alike."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "arm",
    "network",
    "parameters",
    "MACs",
    "runs",
    "steps",
    "epochs",
    "training MACs",
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
        f"{arm['runs']} + {arm['diverged']} diverged" if arm["diverged"] else str(arm["runs"]),
        _number(arm["steps"], "{:,.0f}"),
        _number(arm["epochs"], "{:.2f}"),
        _number(arm["training_macs"], "{:.2f} T", 1e-12),
        _number(arm["minutes"], "{:.1f}"),
        _spread(arm["top1"], 100, "{:.2f}"),
        _spread(arm["top5"], 100, "{:.2f}"),
        _spread(arm["loss"], 1, "{:.3f}"),
    ]


DIFFERENCE_COLUMNS = (
    "arm",
    "against",
    "top-1, points",
    "95 %, t",
    "95 %, bootstrap",
    "seed by seed",
    "won",
    "loss",
    "loss: 95 %, t",
)
# What a score is of.
SCORES = (
    "Scores are those of the weights at the end of a run (their running average where the recipe has one), single "
    "view, in float32; no checkpoint is chosen by its score."
)
# What goes with a table of differences.
INTERVALS = (
    "t: Student's interval, which takes the seeds' differences for draws from a normal distribution. Bootstrap: the "
    "percentile bootstrap's, too narrow for few seeds: of two it covers the truth about half of the time, of three at "
    "most three times in four. Both are about other seeds, not about other validation images, and each is for itself: "
    "of many differences some exclude zero by chance."
)


def difference_row(difference: Mapping[str, Any]) -> list[str]:
    """The cells of a difference, by `DIFFERENCE_COLUMNS`; of top-1 in points."""
    top1, loss, seeds = difference["top1"], difference["loss"], len(difference["seeds"])
    tied = f", tied {difference['tied']}" if difference["tied"] else ""
    return [
        difference["arm"],
        difference["against"],
        _number(top1["mean"], "{:+.2f}", 100),
        _interval(top1["student"], "{:+.2f}", 100),
        _interval(top1["bootstrap"], "{:+.2f}", 100),
        ", ".join(f"{100 * value:+.2f}" for value in top1["values"]) or "-",
        f"{difference['won']} of {seeds}{tied}",
        _number(loss["mean"], "{:+.3f}"),
        _interval(loss["student"], "{:+.3f}"),
    ]


def in_points(difference: Mapping[str, Any]) -> str:
    """A difference of top-1 with Student's interval: "+1.20 [-0.80, +3.20] against plain, won 2 of 3, tied 1"."""
    seeds = len(difference["seeds"])
    if not seeds:
        return "no seed in common yet"
    mean = f"{100 * difference['top1']['mean']:+.2f}"
    interval = f" {_interval(difference['top1']['student'], '{:+.2f}', 100)}" if seeds > 1 else ""
    tied = f", tied {difference['tied']}" if difference["tied"] else ""
    against = f"as {difference['against']}" if difference["contrast"] else f"against {difference['against']}"
    return f"{mean}{interval} {against}, won {difference['won']} of {seeds}{tied}"


def data_in_words(report: Mapping[str, Any]) -> str:
    """The data set, what its images are, and how many of which measure."""
    # Reports of earlier versions do not say it.
    form = f" ({report['data_form']})" if "data_form" in report else ""
    return f"{report['data']}{form}, {report['measured_on']}"


def _number(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else form.format(scale * value)


def _interval(ends: Sequence[float | None], form: str, scale: float = 1) -> str:
    low, high = ends
    return (
        "-" if low is None or high is None else f"[{form.format(scale * low)}, {form.format(scale * high)}]"
    )


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

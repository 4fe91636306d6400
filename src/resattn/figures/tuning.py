"""What a study over the fields of a recipe found."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resattn.figures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SKY,
    STYLE,
    Series,
    cut,
    headed_figure,
)

COLORS = (BLUE, ORANGE, GREEN, SKY)
BARS = 10
# Of the table: what fits side by side, and how many letters a line has.
MIN_COLUMNS, COLUMNS, LETTERS = 6, 9, 108
# Share of the height of the learning curves that two figures beside the ends of curves lie apart, at least.
APART = 0.055


@mpl.rc_context(STYLE)
def study_overview(
    importances: Mapping[str, float],
    curves: Sequence[tuple[Series, Series]],
    best: Sequence[int],
    table: Sequence[Mapping[str, str]],
    *,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw what tells the best finished trials apart, beside the learning curves of all trials, the best in colour.

    importances: by field, shares that sum to 1; may be empty. curves: for each trial its steps and its top-1 as a
    fraction of 1, equally long, empty for a trial without a validation. best: positions in `curves`, best first,
    four at most. table: what stands below for each of these, by column, the same columns in each. The first ten
    fields and the first nine columns are drawn.
    """
    below = 0.27 * (len(table) + 2) if table else 0.01
    figure = headed_figure(10, 4.5 + below, title, subtitle)
    # Parts of their own, so that the table begins at the figure's edge and not where the bars do.
    (above,), (key,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.9, below))
    bars, lines = above.subplots(1, 2, width_ratios=(1, 1.8))
    bars.set_title("What tells the best finished trials apart")
    lines.set_title("Learning curves")
    lines.set(xlabel="step", ylabel="held-out images recognised (%)")
    _importance_bars(bars, importances)
    _learning_curves(lines, curves, best)
    if table:
        _key(key.subplots(), table)
    return figure


def _importance_bars(axes: Axes, importances: Mapping[str, float]) -> None:
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])
    ranked = sorted(importances.items(), key=lambda item: -item[1])[:BARS]
    if not ranked:
        axes.text(0, 0.97, "too few finished trials to tell", va="top", color=MUTED, transform=axes.transAxes)
        return
    shares = [100 * share for _, share in ranked]
    axes.barh(range(len(ranked)), shares, height=0.62, color=BLUE)
    axes.set_yticks(range(len(ranked)), [cut(name, 22) for name, _ in ranked])
    # Bars of one height, from the top, whether there are two of them or five.
    axes.set(xlim=(0, 1.2 * max(shares)), ylim=(max(len(ranked), 5) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    for place, share in enumerate(shares):
        axes.text(share + 0.02 * max(shares), place, f"{share:.0f} %", va="center", color=MUTED)


def _learning_curves(axes: Axes, curves: Sequence[tuple[Series, Series]], best: Sequence[int]) -> None:
    axes.grid(axis="y")
    others = [curve for place, curve in enumerate(curves) if place not in best and len(curve[0])]
    for number, (steps, shares) in enumerate(others):
        # With marks, so that a trial that was ended at its first validation is seen too.
        label = None if number else f"{len(others)} other{'s' if len(others) > 1 else ''}"
        axes.plot(
            steps, 100 * shares, color=MUTED, alpha=0.4, linewidth=1, marker="o", markersize=2.5, label=label
        )
    ends = []
    for place, color in zip(best, COLORS, strict=False):
        steps, shares = curves[place]
        if len(steps):
            axes.plot(steps, 100 * shares, color=color, marker="o", markersize=4, zorder=3)
            ends.append((float(steps[-1]), 100 * float(shares[-1]), color))
    if not (others or ends):
        axes.set(xlim=(0, 1), ylim=(0, 100), xticks=[])
        axes.text(0.5, 50, "no validation yet", ha="center", va="center", color=MUTED)
        return
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if others:
        axes.legend(loc="lower right")
    _end_labels(axes, ends)


def _end_labels(axes: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
    """Write each curve's last value beside its end, moved up where it would lie on another."""
    apart = APART * (axes.get_ylim()[1] - axes.get_ylim()[0])
    lowest = -np.inf
    for step, share, color in sorted(ends, key=lambda end: end[1]):
        lowest = max(share, lowest + apart)
        axes.annotate(
            f"{share:.1f}",
            (step, lowest),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold",
            annotation_clip=False,
        )


def _key(axes: Axes, table: Sequence[Mapping[str, str]]) -> None:
    """The best trials in a table, each behind the colour of its curve."""
    axes.set_title("Best trials")
    axes.set_axis_off()
    names = list(table[0])[:COLUMNS]
    columns = max(len(names), MIN_COLUMNS)
    axes.set(xlim=(0, columns), ylim=(len(table) + 0.8, -0.2))
    letters = LETTERS // columns
    for column, name in enumerate(names):
        axes.text(column + 0.2, 0.3, cut(name, letters), va="center", color=MUTED)
        for line, row in enumerate(table):
            axes.text(column + 0.2, line + 1.3, cut(row[name], letters), va="center", color=INK)
    for (line, _), color in zip(enumerate(table), COLORS, strict=False):
        axes.plot([0.07], [line + 1.27], color=color, marker="o", markersize=6)

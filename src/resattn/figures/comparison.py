"""What a comparison of several ways to train found: learning curves by arm, and final scores run by run."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resattn.figures.style import (
    INK,
    MUTED,
    STYLE,
    Series,
    cut_apart,
    end_axis_below_outliers,
    headed_figure,
)

# Okabe and Ito's palette without its yellow, which is faint on white; an arm drawn in another's colour is dashed.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#222222")
DASHES = ("-", "--", ":")
# Share of the height that two names beside the ends of curves lie apart, at least.
APART = 0.05
ROW_INCHES = 0.42
# Times what four in five validations stay below: what lies higher is left out.
CEILING = 2.0
# From the end of a curve to its name, at the middle of the name's left edge.
LEADER = {"arrowstyle": "-", "linewidth": 0.8, "alpha": 0.5, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3}


@mpl.rc_context(STYLE)
def curves_by_arm(
    curves: Mapping[str, Sequence[tuple[Series, Series]]],
    *,
    horizontal: str,
    vertical: str,
    form: str = "{:.1f}",
    partners: Mapping[str, str] | None = None,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw for each arm the mean over its runs, in a band from the lowest run to the highest.

    curves: by arm, for each run the places of its validations on the horizontal axis and the values there. Runs of an
    arm are met validation by validation, as far as all have come. `form` writes a curve's last value beside its end.
    An arm of `partners` has the colour of its partner, and another dash.
    """
    figure = headed_figure(9.0, 4.8, title, subtitle)
    axes = figure.add_subplot(xlabel=horizontal, ylabel=vertical)
    axes.grid(axis="y")
    ends = []
    drawn: dict[str, Series] = {}
    looks, names = _looks(curves, partners or {}), cut_apart(curves, 30)
    for arm, runs in curves.items():
        color, dash = looks[arm]
        common = min((len(values) for _, values in runs), default=0)
        if common == 0:
            continue
        x = np.mean([places[:common] for places, _ in runs], axis=0)
        drawn[arm] = y = np.array([values[:common] for _, values in runs], dtype=np.float64)
        if len(runs) > 1:
            axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=color, alpha=0.15, linewidth=0)
        axes.plot(x, y.mean(axis=0), dash, color=color, marker="o", markersize=3.5)
        ends.append((float(x[-1]), float(y.mean(axis=0)[-1]), f"{names[arm]}, ", color))
    if not ends:
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no validation yet", ha="center", va="center", color=MUTED)
        return figure
    axes.set_xlim(left=0)
    end_axis_below_outliers(axes, {names[arm]: values for arm, values in drawn.items()}, CEILING)
    _name_ends(axes, ends, form)
    return figure


def _looks(arms: Iterable[str], partners: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Colour and dash of each arm; those without a partner get the colours in turn."""
    leaders = {arm: _leader(arm, partners) for arm in arms}
    numbers = {leader: number for number, leader in enumerate(dict.fromkeys(leaders.values()))}
    taken: Counter[str] = Counter()
    looks = {}
    for arm in sorted(leaders, key=lambda arm: arm != leaders[arm]):  # the leaders first: they are solid
        turn, place = divmod(numbers[leaders[arm]], len(COLORS))
        looks[arm] = COLORS[place], DASHES[(turn + taken[leaders[arm]]) % len(DASHES)]
        taken[leaders[arm]] += 1
    return looks


def _leader(arm: str, partners: Mapping[str, str]) -> str:
    """The partner's partner, and so on; in a circle the last before it closes."""
    met = [arm]
    while met[-1] in partners and partners[met[-1]] not in met:
        met.append(partners[met[-1]])
    return met[-1]


def _name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], form: str) -> None:
    """Write name and last value of each curve at the right, apart from each other."""
    low, high = axes.get_ylim()
    apart = APART * (high - low)
    order = sorted(ends, key=lambda end: end[1])
    heights: list[float] = []
    for _, value, _, _ in order:
        heights.append(max(value, heights[-1] + apart) if heights else value)
    # Half of what they were pushed up together goes down again, so that the names stay beside their curves.
    # None goes below the axis, where its ticks are.
    pushed = float(np.mean([height - end[1] for height, end in zip(heights, order, strict=True)]))
    pushed = min(pushed, heights[0] - (low + apart / 2))
    right = max(end[0] for end in ends)
    for height, (x, value, name, color) in zip(heights, order, strict=True):
        axes.annotate(
            f"{name}{form.format(value)}",
            (x, value),
            xytext=(right + 0.03 * right, height - pushed),
            textcoords="data",
            va="center",
            color=color,
            weight="bold",
            annotation_clip=False,
            arrowprops=LEADER | {"color": color},
        )


@mpl.rc_context(STYLE)
def scores_by_arm(
    scores: Mapping[str, Sequence[float]],
    *,
    notes: Mapping[str, str] | None = None,
    partners: Mapping[str, str] | None = None,
    horizontal: str,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw a row for each arm: a dot for each run, a line at their mean, and at the right a note.

    scores: by arm, from the top, one value a run; may be empty. An arm of `partners` has the colour of its partner.
    """
    figure = headed_figure(9.6, 1.35 + ROW_INCHES * len(scores), title, subtitle)
    axes = figure.add_subplot(xlabel=horizontal)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    looks = _looks(scores, partners or {})
    for row, (arm, values) in enumerate(scores.items()):
        color, _ = looks[arm]
        if len(values):
            mean = float(np.mean(values))
            axes.plot([mean, mean], [row - 0.3, row + 0.3], color=color, linewidth=2.4)
            axes.plot(
                values, [row] * len(values), "o", color=color, markersize=6, alpha=0.55, markeredgewidth=0
            )
    axes.set_yticks(range(len(scores)), cut_apart(scores, 34).values())
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.margins(x=0.08)
    for row, arm in enumerate(scores):
        axes.annotate(
            (notes or {}).get(arm, ""),
            (1.01, row),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            color=MUTED,
            fontsize=8.5,
            annotation_clip=False,
        )
    return figure

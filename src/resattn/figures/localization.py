"""How well readings of the masks find the object."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resattn.figures.style import BLUE, INK, MUTED, ORANGE, STYLE, Series, headed_figure

# By score: what is drawn above the bars, by what the values are multiplied, and how they are written.
HEADINGS: Mapping[str, tuple[str, float, str]] = {
    "pointing": ("Maximum lies in the box (%)", 100, "{:.1f}"),
    "energy": ("Energy in the box (chance: 1)", 1, "{:.2f}"),
    "box accuracy": ("Box with IoU of 0.5 or more (%)", 100, "{:.1f}"),
}


@mpl.rc_context(STYLE)
def localization_scores(
    names: Sequence[str],
    scores: Mapping[str, Sequence[float]],
    *,
    baselines: Sequence[bool],
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw the scores of each reading as bars, one panel a score, the best baseline as a line through them.

    names: of the readings. scores: by "pointing", "energy" and "box accuracy", one value a reading: the first and last
    as fractions of 1. baselines: which readings are baselines; they are grey. Of the others the best of each panel is
    orange.
    """
    figure = headed_figure(11.5, 1.35 + 0.27 * len(names), title, subtitle)
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axes, (score, values) in zip(panels, scores.items(), strict=True):
        heading, scale, form = HEADINGS[score]
        axes.set_title(heading)
        _bars(axes, scale * np.asarray(values, dtype=np.float64), baselines, form)
    panels[0].set_yticks(_places(baselines), names)
    panels[0].set_ylim(_places(baselines)[-1] + 0.6, -0.6)
    return figure


def _places(baselines: Sequence[bool]) -> Series:
    """Where the bars stand: with room between the baselines and the readings."""
    return np.arange(len(baselines)) + 0.4 * ~np.asarray(baselines, dtype=np.bool_)


def _bars(axes: Axes, values: Series, baselines: Sequence[bool], form: str) -> None:
    places = _places(baselines)
    plain = np.asarray(baselines, dtype=np.bool_)
    best = np.argmax(np.where(plain, -np.inf, values)) if not plain.all() else None
    colors = [MUTED if plain[k] else ORANGE if k == best else BLUE for k in range(len(values))]
    axes.barh(places, values, height=0.7, color=colors)
    longest = max(values.max(), 1e-9)
    for place, value in zip(places, values, strict=True):
        inside = value > 0.2 * longest
        axes.annotate(
            form.format(value),
            (value, place),
            xytext=(-4 if inside else 4, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside else "left",
            fontsize=8,
            color="white" if inside else INK,
            weight="bold",
        )
    if plain.any():
        axes.axvline(values[plain].max(), color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_xlim(0, 1.05 * longest)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)

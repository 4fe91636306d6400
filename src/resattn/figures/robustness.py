"""What common corruptions leave of a network's accuracy."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from resattn.figures.style import BLUE, INK, MUTED, ORANGE, STYLE, Series, headed_figure, short_name

Image = npt.NDArray[np.uint8]
ROW_INCHES = 0.52
# Room above the families of a kind, for its name; as a share of a row.
HEADING = 0.5
# From nothing recognised to as much as without corruption.
SHADES = LinearSegmentedColormap.from_list("share", ["#FFFFFF", "#D3E5F2", "#86B9DC", BLUE])


@mpl.rc_context(STYLE)
def corruption_accuracy(
    families: Sequence[str],
    kinds: Sequence[str],
    top1: Sequence[Sequence[float]] | Series,
    *,
    clean: float,
    examples: Sequence[Image] | None = None,
    example_severities: Sequence[int] = (1, 3, 5),
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw a row for each family of corruptions: what it looks like, top-1 at each severity, and their mean.

    families: names, from the top. kinds: what each belongs to; rows of one kind that follow each other stand below its
    name. top1: families x severities, fractions of 1, mildest first. clean: top-1 without corruption, which is the
    darkest shade, and a line beside the means. examples: for each family uint8 RGB images, N x H x W x 3, one for each
    of `example_severities`; severities are counted from 1.
    """
    shares = 100 * np.asarray(top1, dtype=np.float64).reshape(len(families), -1)
    begins = [place == 0 or kinds[place] != kinds[place - 1] for place in range(len(kinds))]
    places = np.arange(len(kinds)) + HEADING * np.cumsum(begins)
    widths = [3.0, 2.3] if examples is None else [len(example_severities) * ROW_INCHES, 3.0, 2.3]
    figure = headed_figure(sum(widths) + 2.1, 1.45 + ROW_INCHES * (places[-1] + 1), title, subtitle)
    panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)[0]
    if examples is not None:
        _pictures(panels[0], places, examples, example_severities)
    _shades(panels[-2], places, shares, 100 * clean)
    _means(panels[-1], places, shares.mean(axis=1), 100 * clean)
    tops = {places[k] - 0.5 - HEADING / 2: kind for k, kind in enumerate(kinds) if begins[k]}
    _names(panels[0], places, families, tops)
    return figure


def _names(axes: Axes, places: Series, families: Sequence[str], kinds: dict[float, str]) -> None:
    names = [short_name(name.replace("_", " "), 24) for name in families]
    axes.set_yticks([*places, *kinds], [*names, *kinds.values()])
    for label in axes.get_yticklabels()[len(names) :]:
        label.set(color=MUTED, weight="bold")
    axes.set_ylim(places[-1] + 0.5, -0.5)


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _severities(axes: Axes, severities: Sequence[int]) -> None:
    axes.set_xticks(range(len(severities)), [str(severity) for severity in severities])
    axes.set_xlim(-0.5, len(severities) - 0.5)
    axes.set_xlabel("severity", color=MUTED)


def _pictures(axes: Axes, places: Series, examples: Sequence[Image], severities: Sequence[int]) -> None:
    _bare(axes, "For example")
    for place, row in zip(places, examples, strict=True):
        for column, image in enumerate(row):
            edges = (column - 0.48, column + 0.48, place + 0.48, place - 0.48)
            axes.imshow(image, extent=edges, aspect="auto", interpolation="antialiased")
    _severities(axes, severities)


def _shades(axes: Axes, places: Series, shares: Series, clean: float) -> None:
    _bare(axes, "Images recognised (%)")
    for place, row in zip(places, shares, strict=True):
        for column, share in enumerate(row):
            depth = min(share / max(clean, 1e-9), 1)
            axes.fill_between([column - 0.48, column + 0.48], place - 0.48, place + 0.48, color=SHADES(depth))
            ink = "white" if depth > 0.85 else INK
            axes.text(column, place, f"{share:.1f}", ha="center", va="center_baseline", color=ink)
    _severities(axes, range(1, shares.shape[1] + 1))


def _means(axes: Axes, places: Series, means: Series, clean: float) -> None:
    _bare(axes, "Mean of the severities (%)")
    longest = max(clean, *means, 1)
    axes.barh(places, means, height=0.7, color=BLUE)
    for place, mean in zip(places, means, strict=True):
        inside = mean > 0.25 * longest
        axes.annotate(
            f"{mean:.1f}",
            (mean, place),
            xytext=(-4 if inside else 4, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center_baseline",
            color="white" if inside else INK,
            weight="bold",
        )
    average = float(np.mean(means))
    for value, name, color in ((average, "mean of families", ORANGE), (clean, "clean images", MUTED)):
        label = f"{name}: {value:.1f}"
        axes.axvline(value, color=color, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0, label=label)
    axes.set(xlim=(0, 1.03 * longest), xticks=[])
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0), borderpad=0, borderaxespad=0.4, handlelength=1.6)

"""Which classes are taken for which."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure

from resattn.figures.style import INK, MUTED, ORANGE, STYLE, Series, headed_figure, short_name

Counts = npt.NDArray[np.integer[Any]]
HEAT = LinearSegmentedColormap.from_list("resattn", ["#EDF3F9", "#B5D0E6", "#5B9BC8", "#0B5C9E", "#06274D"])
NAMED_CLASSES = 30
ANNOTATED_CLASSES = 12


@mpl.rc_context(STYLE)
def confusion_matrix(
    confusion: Counts,
    names: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
    pairs: int = 14,
) -> Figure:
    """Draw the confusion matrix and list the most frequent mistakes beside it.

    confusion: classes x classes, row the right class, column the predicted one, counts. Colours are shares of
    the row; logarithmic for more than 12 classes, where single mistakes would vanish beside the diagonal. Up
    to 12 classes the shares are written into the cells, up to 30 the names stand at the edges; above that the
    classes are numbered from 0 in the order given. Raises ValueError where shape and names disagree.
    """
    classes = len(names)
    if confusion.shape != (classes, classes):
        raise ValueError(f"confusion is {confusion.shape}, and there are {classes} names")
    figure = headed_figure(11.5, 6.6, title, subtitle)
    grid = figure.add_gridspec(1, 2, width_ratios=(1.75, 1))
    matrix = figure.add_subplot(grid[0, 0], xlabel="predicted class", ylabel="right class")
    shares = 100.0 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    _cells(figure, matrix, shares)
    _names(matrix, [short_name(name) for name in names])
    listing = figure.add_subplot(grid[0, 1], title="Top mistakes (right → predicted)")
    _mistakes(listing, confusion, names, pairs)
    return figure


def _cells(figure: Figure, axes: Axes, shares: Series) -> None:
    norm, ticks = _scale(shares)
    cells = axes.imshow(np.ma.masked_equal(shares, 0), cmap=HEAT, norm=norm, interpolation="nearest")
    label = "share of the right class's images (%)"
    bar = figure.colorbar(cells, ax=axes, shrink=0.6, aspect=30, label=label)
    bar.outline.set_visible(False)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    if len(shares) > ANNOTATED_CLASSES:
        return
    for (row, column), share in np.ndenumerate(shares):
        if share:
            text, color = f"{share:.0f}" if share >= 1 else "<1", "white" if share > 50 else INK
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def _scale(shares: Series) -> tuple[Normalize, list[float]]:
    """How shares in percent become colours, and the marks of the colour bar."""
    if len(shares) <= ANNOTATED_CLASSES:
        return Normalize(0, 100), [0, 25, 50, 75, 100]
    smallest = float(shares[shares > 0].min()) if np.any(shares > 0) else 1.0
    # Half the smallest share is the palest colour, so that a single mistake still stands out from white.
    lowest = min(smallest, 50.0) / 2
    return LogNorm(lowest, 100), [
        mark for mark in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if mark >= lowest
    ]


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.spines[:].set_visible(True)
    if len(names) > NAMED_CLASSES:
        axes.set(xlabel="predicted class (number)", ylabel="right class (number)")
        return
    slanted = len(names) > 3
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelsize=8 if len(names) <= 20 else 7)
    for label in axes.get_xticklabels() if slanted else ():
        label.set(rotation=45, rotation_mode="anchor", horizontalalignment="right")


def _mistakes(axes: Axes, confusion: Counts, names: Sequence[str], pairs: int) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(max(pairs, 1), 0))
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:pairs]
    found = [divmod(int(cell), len(names)) for cell in order if wrong.flat[cell] > 0]
    if not found:
        axes.text(0, 0.6, "none: every image was recognised")
    for line, (right, predicted) in enumerate(found):
        count, images = int(wrong[right, predicted]), int(confusion[right].sum())
        pair = f"{short_name(names[right])} → {short_name(names[predicted])}"
        # Cut off at the edge rather than squeezing the matrix, however wide the letters of a script are.
        axes.text(0, line + 0.5, pair, va="bottom", fontsize=8.5, clip_on=True, in_layout=False)
        length = 0.7 * count / int(wrong.max())
        axes.barh(line + 0.68, length, height=0.16, color=ORANGE)
        axes.text(
            length + 0.02, line + 0.68, f"{count:,} of {images:,}", va="center", fontsize=7.5, color=MUTED
        )

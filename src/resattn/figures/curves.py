"""How a training run went."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resattn.figures.style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    SKY,
    STYLE,
    Series,
    end_axis_below_outliers,
    headed_figure,
)

# Times what four in five losses stay below; a first loss of an untrained network, ln of the classes, is to stay.
CEILING = 4.0

History = Mapping[str, Series]


@mpl.rc_context(STYLE)
def learning_curves(history: History, *, title: str = "", subtitle: str = "") -> Figure:
    """Draw loss and accuracy of training and validation over the epochs, learning rate and image size below.

    history: the columns of metrics.csv, equally long, NaN where a row has no value: epoch (fractions of one;
    step is taken where epochs are too few or absent), train_loss and val_loss in nats, train_accuracy,
    val_top1 and val_top5 as fractions of 1, lr, size in pixels. What is absent or empty is left out. Training
    values are drawn as they are, pale, with a moving mean over them. The axis of loss ends below a few outliers.
    """
    unit, when = _time_axis(history)
    figure = headed_figure(10, 5.8, title, subtitle)
    grid = figure.add_gridspec(2, 2, height_ratios=(3.4, 1))
    loss = figure.add_subplot(grid[0, 0], title="Loss", ylabel="cross-entropy (nats)")
    accuracy = figure.add_subplot(grid[0, 1], title="Accuracy", ylabel="images recognised (%)", sharex=loss)
    rate = figure.add_subplot(grid[1, 0], ylabel="learning rate", xlabel=unit, sharex=loss)
    size = figure.add_subplot(grid[1, 1], ylabel="image (px)", xlabel=unit, sharex=loss)
    losses = {"training": _column(history, "train_loss"), "validation": _column(history, "val_loss")}
    _training_line(loss, when, losses["training"])
    _validation_line(loss, when, losses["validation"], "validation", ORANGE, "{:.3f}")
    end_axis_below_outliers(loss, losses, CEILING)
    _training_line(accuracy, when, 100 * _column(history, "train_accuracy"))
    for top, color in ((1, ORANGE), (5, GREEN)):
        shares = 100 * _column(history, f"val_top{top}")
        _validation_line(accuracy, when, shares, f"validation top-{top}", color, "{:.1f}%")
    _finish(loss)
    _finish(accuracy, from_zero=True)
    _rate_line(rate, when, _column(history, "lr"))
    _size_line(size, when, _column(history, "size"))
    figure.align_ylabels()
    return figure


def _time_axis(history: History) -> tuple[str, Series]:
    """The horizontal axis: epochs where they tell rows apart as finely as steps do, else steps."""
    epoch, step = _column(history, "epoch"), _column(history, "step")
    coarse = len(np.unique(epoch[np.isfinite(epoch)])) < len(np.unique(step[np.isfinite(step)]))
    return ("step", step) if coarse else ("epoch", epoch)


def _column(history: History, name: str) -> Series:
    rows = max((len(column) for column in history.values()), default=0)
    return np.asarray(history.get(name, np.full(rows, np.nan)), dtype=np.float64)


def _known(when: Series, values: Series) -> tuple[Series, Series]:
    known = np.isfinite(when) & np.isfinite(values)
    return when[known], values[known]


def _training_line(axes: Axes, when: Series, values: Series) -> None:
    x, y = _known(when, values)
    window = len(y) // 25
    if window > 1:
        axes.plot(x, y, color=SKY, alpha=0.45, linewidth=0.7)
        # The mean of what there is near both ends, so that the line neither shortens nor bends there.
        weights = np.convolve(np.ones_like(y), np.ones(window), mode="same")
        mean = np.convolve(y, np.ones(window), mode="same") / weights
        axes.plot(x, mean, color=BLUE, label=f"training batches, mean of {window}")
    elif len(y):
        axes.plot(x, y, color=BLUE, label="training batches")


def _validation_line(axes: Axes, when: Series, values: Series, name: str, color: str, form: str) -> None:
    x, y = _known(when, values)
    if len(y):
        label = f"{name}, {form.format(y[-1])} at the end"
        axes.plot(x, y, color=color, marker="o", markersize=4, label=label)


def _finish(axes: Axes, *, from_zero: bool = False) -> None:
    axes.tick_params(labelbottom=False)
    axes.grid(axis="y")
    if from_zero:
        axes.set_ylim(bottom=0)
    if axes.lines:
        # Mixed images, of which few are recognised, leave no corner free in every run.
        axes.legend(loc="best")


def _rate_line(axes: Axes, when: Series, values: Series) -> None:
    x, y = _known(when, values)
    axes.plot(x, y, color=MUTED)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))


def _size_line(axes: Axes, when: Series, values: Series) -> None:
    x, y = _known(when, values)
    axes.plot(x, y, color=MUTED, drawstyle="steps-post")
    sizes = np.unique(y)
    if 0 < len(sizes) <= 4:
        axes.set_yticks(sizes, [f"{side:g}" for side in sizes])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.margins(y=0.25)

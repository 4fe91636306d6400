"""The panels that figures of single images share: the image, a map laid over it, the likeliest classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from resattn.figures.style import GREEN, MUTED, ORANGE, PALE, SKY, Series, short_name

Image = npt.NDArray[np.uint8]


def picture(axes: Axes, image: Image, values: Series | None, heading: str) -> None:
    """The image; with values, grey under their colours, stretched from the smallest to the largest."""
    if values is None:
        axes.imshow(image)
    else:
        axes.imshow(gray(image))
        edges = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
        axes.imshow(values, cmap="inferno", alpha=0.62, extent=edges, interpolation="bilinear")
    axes.set_title(heading, fontsize=8.5, weight="normal", loc="center", color=MUTED)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def gray(image: Image) -> Image:
    """The image without colours, H x W x 3."""
    return np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


def name_range(axes: Axes, values: Series) -> None:
    """Below a picture: the smallest and the largest of its values."""
    axes.set_xlabel(f"{values.min():.2f} to {values.max():.2f}", fontsize=7, labelpad=2, color=MUTED)


def likeliest(axes: Axes, names: Sequence[str], shares: Any, truth: str | None) -> None:
    """The likeliest classes as bars, best first; `truth` ticked where it is among them, else named above."""
    axes.set_axis_off()
    # One line more where truths are told, used or not, so that all the cards of a sheet stand level.
    axes.set(xlim=(0, 1), ylim=(max(len(names), 5) - 0.5, -0.5 if truth is None else -1.5))
    class_bars(axes, names, shares, truth)


def class_bars(
    axes: Axes,
    names: Sequence[str],
    shares: Any,
    truth: str | None,
    *,
    left: float = 0.0,
    first: float = 0.0,
    width: float = 1.0,
    line: float = 1.0,
) -> None:
    """The bars of `likeliest` in axes that hold more, in their units: from `left`, the first at `first`, downwards."""
    places = first + line * np.arange(len(names))
    colors = [GREEN if name == truth else SKY for name in names]
    axes.barh(places, width, left=left, height=0.8 * line, color=PALE)
    axes.barh(places, width * np.asarray(shares), left=left, height=0.8 * line, color=colors, alpha=0.55)
    for place, name, share in zip(places, names, shares, strict=True):
        label = f"✓ {short_name(name)}" if name == truth else short_name(name)
        axes.text(left + 0.02 * width, place, label, va="center", fontsize=8)
        number = f"{100 * float(share):.0f}%"
        axes.text(left + 0.98 * width, place, number, va="center", ha="right", fontsize=8)
    if truth is not None and truth not in names:
        axes.text(left, first - line, f"is: {short_name(truth)}", va="center", fontsize=8, color=ORANGE)

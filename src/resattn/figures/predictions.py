"""What a network sees in single images."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resattn.figures.panels import Image, class_bars, gray
from resattn.figures.style import MUTED, STYLE, Series, headed_figure

# Inches. Everything lies in one axes, whose unit is an inch: axes of their own for every picture and every list of
# classes would take most of the time a sheet takes.
PICTURE, GAP, BARS, LINE = 1.25, 0.16, 2.6, 1.7
HEADER, MARGIN = 0.85, 0.08


@mpl.rc_context(STYLE)
def predictions_sheet(
    images: Sequence[Image] | Image,
    labels: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]] | Series,
    masks: Mapping[str, Series] | None = None,
    *,
    truths: Sequence[str] | None = None,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw a contact sheet: each image, where the masks of each stage look, and the likeliest classes.

    images: N of H x W x 3, uint8 RGB, sizes may differ. labels, probabilities: N lists of the likeliest
    classes, best first, and their probabilities. masks: by "stage{i}.{j}", N x h x w or N x channels x h x w;
    the mean over channels and over the modules of a stage is laid over the image, colours stretched from its
    smallest to its largest value, which stand below. truths: the right classes; ticked where they are among
    the likeliest, else named above.
    """
    stages = _stage_means(masks or {})
    across = 1 if len(images) < 4 else 2 if stages else 3
    down = -(-len(images) // across)
    card = (1 + len(stages)) * (PICTURE + GAP) + BARS + GAP
    width, height = across * card + 2 * MARGIN, HEADER + max(down, 1) * LINE
    figure = headed_figure(width, height, title, subtitle)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    for index, image in enumerate(images):
        left, top = MARGIN + index % across * card, HEADER + index // across * LINE
        heads = ("image", *stages) if index < across else ("",) * (1 + len(stages))
        for head, values in zip(heads, (None, *(mask[index] for mask in stages.values())), strict=True):
            _picture(axes, image, values, head, left, top)
            left += PICTURE + GAP
        # One line more where truths are told, used or not, so that all the cards of a sheet stand level.
        above = 1 if truths else 0
        line = PICTURE / (above + max(len(labels[index]), 5))
        place = {"left": left, "first": top + line * (above + 0.5), "width": BARS, "line": line}
        class_bars(axes, labels[index], probabilities[index], truths[index] if truths else None, **place)
    return figure


def _picture(axes: Axes, image: Image, values: Series | None, head: str, left: float, top: float) -> None:
    """The image in a square, its sides in proportion; with values, grey under their colours and their range below."""
    height, width = (PICTURE * side / max(image.shape[:2]) for side in image.shape[:2])
    x, y = left + (PICTURE - width) / 2, top + (PICTURE - height) / 2
    place: dict[str, Any] = {"extent": (x, x + width, y + height, y), "aspect": "auto"}
    axes.imshow(image if values is None else gray(image), **place)
    middle = left + PICTURE / 2
    if values is not None:
        axes.imshow(values, cmap="inferno", alpha=0.62, interpolation="bilinear", **place)
        spread = f"{values.min():.2f} to {values.max():.2f}"
        axes.text(middle, y + height + 0.04, spread, ha="center", va="top", fontsize=7, color=MUTED)
    axes.text(middle, top - 0.06, head, ha="center", va="bottom", fontsize=8.5, color=MUTED)


def _stage_means(masks: Mapping[str, Series]) -> dict[str, Series]:
    """Mean over channels and over the modules of a stage: "stage 1" -> N x h x w."""
    stages: dict[str, list[Series]] = {}
    for key in sorted(masks):
        mask = np.asarray(masks[key], dtype=np.float64)
        mean = mask.mean(axis=1) if mask.ndim == 4 else mask
        stages.setdefault(key.split(".")[0].replace("stage", "stage "), []).append(mean)
    return {stage: np.mean(members, axis=0) for stage, members in stages.items()}

"""What a network sees in single images."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resattn.figures.style import GREEN, MUTED, ORANGE, PALE, SKY, STYLE, Series, headed_figure, short_name

Image = npt.NDArray[np.uint8]
PICTURE_INCHES, BARS_INCHES, LINE_INCHES = 1.25, 2.6, 1.6


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
    widths = [PICTURE_INCHES] * (1 + len(stages)) + [BARS_INCHES]
    figure = headed_figure(across * (sum(widths) + 0.5), down * LINE_INCHES + 0.9, title, subtitle)
    cards = figure.subfigures(max(down, 1), across, squeeze=False)
    for index, image in enumerate(images):
        panels = cards[divmod(index, across)].subplots(1, len(widths), width_ratios=widths)
        top = index < across
        _picture(panels[0], image, "image" if top else "")
        for axes, (stage, mask) in zip(panels[1:], stages.items(), strict=False):
            _overlay(axes, image, mask[index], stage if top else "")
        _likeliest(panels[-1], labels[index], probabilities[index], truths[index] if truths else None)
    return figure


def _stage_means(masks: Mapping[str, Series]) -> dict[str, Series]:
    """Mean over channels and over the modules of a stage: "stage 1" -> N x h x w."""
    stages: dict[str, list[Series]] = {}
    for key in sorted(masks):
        mask = np.asarray(masks[key], dtype=np.float64)
        mean = mask.mean(axis=1) if mask.ndim == 4 else mask
        stages.setdefault(key.split(".")[0].replace("stage", "stage "), []).append(mean)
    return {stage: np.mean(members, axis=0) for stage, members in stages.items()}


def _picture(axes: Axes, image: Image, heading: str) -> None:
    axes.imshow(image)
    axes.set_title(heading, fontsize=8.5, weight="normal", loc="center", color=MUTED)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _overlay(axes: Axes, image: Image, mask: Series, heading: str) -> None:
    height, width = image.shape[:2]
    _picture(axes, np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8), heading)
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(mask, cmap="inferno", alpha=0.6, extent=edges, interpolation="bilinear")
    axes.set_xlabel(f"{mask.min():.2f} to {mask.max():.2f}", fontsize=7, labelpad=2, color=MUTED)


def _likeliest(axes: Axes, names: Sequence[str], shares: Any, truth: str | None) -> None:
    axes.set_axis_off()
    # One line more where truths are told, used or not, so that all the cards of a sheet stand level.
    axes.set(xlim=(0, 1), ylim=(max(len(names), 5) - 0.5, -0.5 if truth is None else -1.5))
    for place, (name, share) in enumerate(zip(names, shares, strict=True)):
        right = name == truth
        axes.barh(place, 1, height=0.8, color=PALE)
        axes.barh(place, float(share), height=0.8, color=GREEN if right else SKY, alpha=0.55)
        label = f"✓ {short_name(name)}" if right else short_name(name)
        axes.text(0.02, place, label, va="center", fontsize=8)
        axes.text(0.98, place, f"{100 * float(share):.0f}%", va="center", ha="right", fontsize=8)
    if truth is not None and truth not in names:
        axes.text(0, -1, f"is: {short_name(truth)}", va="center", fontsize=8, color=ORANGE)

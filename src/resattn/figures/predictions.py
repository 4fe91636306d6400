"""What a network sees in single images."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from resattn.figures.panels import Image, likeliest, name_range, picture
from resattn.figures.style import STYLE, Series, headed_figure

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
        picture(panels[0], image, None, "image" if top else "")
        for axes, (stage, mask) in zip(panels[1:], stages.items(), strict=False):
            picture(axes, image, mask[index], stage if top else "")
            name_range(axes, mask[index])
        likeliest(panels[-1], labels[index], probabilities[index], truths[index] if truths else None)
    return figure


def _stage_means(masks: Mapping[str, Series]) -> dict[str, Series]:
    """Mean over channels and over the modules of a stage: "stage 1" -> N x h x w."""
    stages: dict[str, list[Series]] = {}
    for key in sorted(masks):
        mask = np.asarray(masks[key], dtype=np.float64)
        mean = mask.mean(axis=1) if mask.ndim == 4 else mask
        stages.setdefault(key.split(".")[0].replace("stage", "stage "), []).append(mean)
    return {stage: np.mean(members, axis=0) for stage, members in stages.items()}

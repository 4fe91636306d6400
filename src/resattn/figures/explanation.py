"""Why a network said what it said of an image: the masks, where it looked, and the likeliest classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from resattn.figures.panels import Image, likeliest, name_range, picture
from resattn.figures.style import GREEN, ORANGE, STYLE, Series, headed_figure

Box = Sequence[float] | Series
CHANNELS = 3
WIDTH, ABOVE, MODULE, CARD = 10.4, 2.75, 1.66, 1.52
# Of the parts of a row: a picture has 1.
PARTS, CARD_BARS = 4.4, 1.6


@mpl.rc_context(STYLE)
def explanation_sheet(
    image: Image,
    labels: Sequence[str],
    probabilities: Sequence[float] | Series,
    masks: Mapping[str, Series],
    *,
    saliency: Series | None = None,
    box: Box | None = None,
    grad_cam: Series | None = None,
    truth: str | None = None,
    true_box: Box | None = None,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw one image with the likeliest classes, the saliency and its box, Grad-CAM, and every module's mask.

    image: uint8 RGB, H x W x 3, of any size. labels, probabilities: the likeliest classes, best first. masks: by
    "stage{i}.{j}", channels x h x w over the whole image; drawn are their mean and the three channels that differ most
    from place to place, each with its smallest and largest value. saliency, grad_cam: h x w in [0, 1]. box, true_box:
    xyxy in pixels, edges, of the saliency map (of the image where there is none). truth: the right class, ticked among
    the likeliest, else named.
    """
    rows = -(-len(masks) // 2)
    figure = headed_figure(WIDTH, 0.75 + ABOVE + MODULE * rows, title, subtitle)
    parts = figure.subfigures(1 + rows, 1, squeeze=False, height_ratios=[ABOVE] + [MODULE] * rows)[:, 0]
    pictures = [("image", None), ("where it looked", saliency), ("Grad-CAM", grad_cam)]
    shown = [(heading, drawn) for heading, drawn in pictures if drawn is not None or heading == "image"]
    bars = PARTS - len(shown)
    panels = parts[0].subplots(1, len(shown) + 1, width_ratios=[1] * len(shown) + [bars])
    panels[-1].set_box_aspect(1 / bars)
    scale = _scale(image, saliency)
    for axes, (heading, drawn) in zip(panels, shown, strict=False):
        picture(axes, image, drawn, heading)
        if heading != "Grad-CAM":
            _outline(axes, true_box, scale, GREEN)
            _outline(axes, box, scale, ORANGE)
    _key(panels[0], box, true_box)
    likeliest(panels[-1], labels, probabilities, truth)
    for place, (key, mask) in enumerate(masks.items()):
        if place % 2 == 0:
            sides = parts[1 + place // 2].subfigures(1, 2, wspace=0.02, squeeze=False)[0]
        _module(sides[place % 2], image, key, mask)
    return figure


@mpl.rc_context(STYLE)
def explanations_contact_sheet(
    images: Sequence[Image],
    labels: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]] | Series,
    *,
    saliency: Sequence[Series | None],
    boxes: Sequence[Box | None],
    grad_cam: Sequence[Series | None],
    truths: Sequence[str] | None = None,
    true_boxes: Sequence[Box | None] | None = None,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw many explained images, a card each: the image with its boxes, where the network looked, Grad-CAM, classes.

    As in `explanation_sheet`, one of each an image; maps and boxes that are None are left out.
    """
    across = 1 if len(images) < 3 else 2
    down = max(-(-len(images) // across), 1)
    figure = headed_figure(across * 6.0 + 0.2, 0.85 + down * CARD, title, subtitle)
    cards = figure.subfigures(down, across, squeeze=False)
    for index, image in enumerate(images):
        top = index < across
        maps = [("where it looked", saliency[index]), ("Grad-CAM", grad_cam[index])]
        shown = [("image", None), *(pair for pair in maps if pair[1] is not None)]
        panels = cards[divmod(index, across)].subplots(1, 4, width_ratios=(1, 1, 1, CARD_BARS))
        panels[-1].set_box_aspect(1 / CARD_BARS)
        scale = _scale(image, saliency[index])
        for axes, (heading, drawn) in zip(panels, shown, strict=False):
            picture(axes, image, drawn, heading if top else "")
            if heading != "Grad-CAM":
                _outline(axes, true_boxes[index] if true_boxes else None, scale, GREEN)
                _outline(axes, boxes[index], scale, ORANGE)
        for axes in panels[len(shown) : 3]:
            axes.set_axis_off()
        likeliest(panels[-1], labels[index], probabilities[index], truths[index] if truths else None)
    return figure


def _scale(image: Image, saliency: Series | None) -> Series:
    """What takes a box in pixels of the saliency map (of the image, where there is none) to pixels of the image."""
    height, width = image.shape[:2] if saliency is None else saliency.shape
    return np.array([image.shape[1] / width, image.shape[0] / height] * 2)


def _module(part: SubFigure, image: Image, key: str, mask: Series) -> None:
    """The mean over channels, and the channels that differ most from place to place, of one module's mask."""
    spread = mask.reshape(len(mask), -1).std(axis=1)
    strongest = np.argsort(-spread, kind="stable")[: CHANNELS if len(mask) > 1 else 0]
    drawn = [(f"{key}: mean", mask.mean(axis=0))]
    drawn += [(f"channel {channel}", mask[channel]) for channel in strongest]
    panels = part.subplots(1, 1 + CHANNELS)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    for axes, (heading, values) in zip(panels, drawn, strict=False):
        picture(axes, image, values, heading)
        name_range(axes, values)


def _outline(axes: Axes, box: Box | None, scale: Series, color: str) -> None:
    """Draw a box, xyxy in pixels times `scale`; white below, so that it is seen on any picture."""
    if box is None or not np.isfinite(box).all():
        return
    left, top, right, bottom = np.asarray(box, dtype=np.float64) * scale - 0.5
    for width, ink in ((3.2, "white"), (1.6, color)):
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=ink, linewidth=width)
        axes.add_patch(frame).set_clip_on(False)


def _key(axes: Axes, box: Box | None, true_box: Box | None) -> None:
    """Below the image: which box is whose."""
    known = [(ORANGE, "from the masks", box), (GREEN, "true box", true_box)]
    drawn = [(color, name) for color, name, of in known if of is not None]
    handles = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=color, linewidth=1.6) for color, _ in drawn]
    if drawn:
        place: dict[str, Any] = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, 0),
            "borderaxespad": 0.4,
            "ncols": 2,
        }
        look: dict[str, Any] = {
            "handlelength": 1.2,
            "handleheight": 0.9,
            "columnspacing": 1.2,
            "fontsize": 7.5,
        }
        axes.legend(handles, [name for _, name in drawn], **place, **look)

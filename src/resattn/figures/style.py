"""What all figures share: colours, letters, the head above the drawing, and how they are written to files."""

import textwrap
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from resattn.files import whole_file

Series = npt.NDArray[np.floating[Any]]

# Okabe and Ito's palette (2008): told apart by readers with any of the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, SKY = "#0072B2", "#D55E00", "#009E73", "#56B4E9"
INK, MUTED, RULE, PALE = "#222222", "#6B6B6B", "#DDDDDD", "#F3F3F3"
# Class names may be in any script: fonts with more letters follow the default where they are installed.
_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "PingFang SC", "Hiragino Sans")
# Width of a letter in English text, in sizes of the letters, by weight.
_EMS = {"bold": 0.58, "normal": 0.53}
STYLE: Any = {
    "font.family": ["DejaVu Sans", *sorted(set(_SCRIPTS) & set(font_manager.get_font_names()))],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.color": INK,
    # A class may be called "$100 bill"; without this its name would be read as a formula.
    "text.parse_math": False,
    "svg.hashsalt": "resattn",
}


def headed_figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """An empty figure, in inches, with title and subtitle at the upper left in lines that fit, with room for them."""
    figure = Figure(figsize=(width, height))
    left, down = 0.12 / width, 0.1
    for text, size, weight, color in ((title, 13, "bold", INK), (subtitle, 9.5, "normal", MUTED)):
        if text:
            text = cut(text, 400)  # a file's name may be in it
            letters = (width - 0.24) * 72 / (size * _EMS[weight])
            lines = textwrap.wrap(text, round(letters), break_long_words=False) or [text]
            figure.text(
                left, 1 - down / height, "\n".join(lines), fontsize=size, weight=weight, color=color, va="top"
            )
            down += 0.26 + (len(lines) - 1) * 1.2 * size / 72
    below = (0, 0, 1, 1 - down / height)
    figure.set_layout_engine(
        ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.02, hspace=0.02, rect=below)
    )
    return figure


def end_axis_below_outliers(axes: Axes, curves: Mapping[str, Series], times: float) -> None:
    """End the vertical axis at `times` what four in five values stay below, and say which curves rise above that.

    A loss may begin far above all that follows, which would then lie flat on the ground. Values that are not finite are
    passed over; axes on which nothing rises so high stay as they are.
    """
    known = {name: values[np.isfinite(values)] for name, values in curves.items()}
    every = np.concatenate([values.ravel() for values in known.values()])
    ceiling = times * float(np.quantile(every, 0.8)) if every.size else 0.0
    tops = {name: float(values.max(initial=-np.inf)) for name, values in known.items()}
    above = [f"{name} (to {top:.0f})" for name, top in tops.items() if top > ceiling > 0]
    if above:
        lowest = float(every.min())
        axes.set_ylim(lowest - 0.05 * (ceiling - lowest), ceiling)
        told = f"above the axis: {', '.join(above)}"
        # At the right: the axes' title is at the left.
        axes.text(1, 1.01, told, transform=axes.transAxes, color=MUTED, fontsize=8, ha="right", va="bottom")


def save(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Write `figure` as PNG, SVG or PDF by the suffix of `path`, whole or not at all.

    Equal figures give equal bytes. Missing folders are made. Raises ValueError for another suffix and
    ResattnError where the disk refuses.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise ValueError(f"{path.name}: figures are written as .png, .svg or .pdf")
    dateless = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    # Packing takes a good part of a large figure's time, and zlib's usual 6 hardly makes it smaller than 3.
    packed: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
    with whole_file(path) as temporary, mpl.rc_context(STYLE), warnings.catch_warnings():
        # A box in place of a letter that no font has is better than no figure.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=dateless, facecolor="white", **packed)


def short_name(name: str, width: int = 22) -> str:
    """The first of a class's names ("tabby, tabby cat" is a tabby), cut at `width` characters."""
    return cut(name.split(",")[0].strip() or name, width)


def cut(name: str, width: int) -> str:
    """A name to draw, of `width` characters at most."""
    # Names from a file system may hold lone surrogates, which cannot be drawn.
    name = name.encode("utf-8", "replace").decode("utf-8")
    return name if len(name) <= width else name[: width - 1].rstrip() + "…"


def cut_apart(names: Iterable[str], width: int) -> dict[str, str]:
    """Names to draw, of `width` characters; what another would be like when cut is cut in its middle, or numbered."""
    drawn: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        met = set(drawn.values())
        tried = (cut(name, width), _without_middle(name, width), cut(f"{number} {name}", width))
        drawn[name] = next((each for each in tried if each not in met), name)
    return drawn


def _without_middle(name: str, width: int) -> str:
    if len(name) <= width:
        return cut(name, width)
    end = (width - 1) // 2
    return cut(name[: width - 1 - end].rstrip() + "…" + name[len(name) - end :].lstrip(), width)

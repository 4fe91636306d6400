"""What the figure of corruptions shows."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from resattn import figures

RNG = np.random.default_rng(0)


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def drawn(families: int, *, examples: bool, **changes: object) -> Figure:
    names = [f"strange_noise_{number}" for number in range(families)]
    kinds = ["noise" if number < 2 else "blur" for number in range(families)]
    top1 = np.linspace(0.6, 0.1, 5 * families).reshape(families, 5)
    pictures = [RNG.integers(0, 256, (3, 9, 12, 3), dtype=np.uint8) for _ in names] if examples else None
    arguments = {"clean": 0.75, "examples": pictures, "title": "T", "subtitle": "S"}
    return figures.corruption_accuracy(names, kinds, top1, **{**arguments, **changes})


def test_corruptions_show_every_number_beside_what_they_look_like(tmp_path: Path) -> None:
    figure = drawn(3, examples=True)
    figures.save(figure, tmp_path / "corruptions.png", dpi=60)
    pictures, shades, means = figure.axes
    assert len(pictures.images) == 9
    assert [label.get_text() for label in pictures.get_xticklabels()] == ["1", "3", "5"]
    assert [label.get_text() for label in shades.get_xticklabels()] == ["1", "2", "3", "4", "5"]
    assert [label.get_text() for label in pictures.get_yticklabels()] == [
        "strange noise 0", "strange noise 1", "strange noise 2", "noise", "blur",
    ]  # fmt: skip
    cells = [text.get_text() for text in shades.texts]
    assert (len(cells), cells[0], cells[-1]) == (15, "60.0", "10.0")
    assert {"T", "S", "mean of families: 35.0", "clean images: 75.0"} <= texts(figure)
    assert sorted(line.get_xdata()[0] for line in means.lines) == pytest.approx([35, 75])
    assert means.get_xlim()[1] > 75
    with Image.open(tmp_path / "corruptions.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_kinds_lie_apart_and_accuracy_darkens() -> None:
    _, shades, _ = drawn(3, examples=True).axes
    heights = sorted({text.get_position()[1] for text in shades.texts})
    assert np.diff(heights).tolist() == pytest.approx([1, 1.5])
    depths = [sum(patch.get_facecolor()[0][:3]) for patch in shades.collections]
    assert depths == sorted(depths), "the lower the share, the lighter"


def test_one_family_no_examples_and_nothing_recognised(tmp_path: Path) -> None:
    for number, figure in enumerate(
        (
            drawn(1, examples=False),
            drawn(4, examples=False, clean=0.0),
            figures.corruption_accuracy(["a"], ["b"], [[0.0] * 5], clean=0.0),
        )
    ):
        assert len(figure.axes) == 2
        figures.save(figure, tmp_path / f"{number}.png", dpi=50)

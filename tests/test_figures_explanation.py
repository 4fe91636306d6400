"""What the figures of explanations and of localization show."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from resattn import figures

RNG = np.random.default_rng(0)
LABELS = ["tabby, tabby cat", "tiger cat", "lynx"]
SHARES = np.array([0.6, 0.2, 0.1])


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def frames(figure: Figure) -> list[tuple[float, ...]]:
    """Left, top, width and height of the boxes drawn on the image, each once."""
    found = [patch for patch in figure.subfigs[0].axes[0].patches if isinstance(patch, Rectangle)]
    return list(dict.fromkeys((*frame.get_xy(), frame.get_width(), frame.get_height()) for frame in found))


def explanation(modules: int, **changes: object) -> Figure:
    masks = {f"stage{1 + k // 2}.{k % 2}": RNG.random((5, 4, 4)) for k in range(modules)}
    drawn = {"saliency": RNG.random((32, 32)), "box": [4, 8, 16, 32], "grad_cam": RNG.random((32, 32))}
    image = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return figures.explanation_sheet(image, LABELS, SHARES, masks, **{**drawn, **changes}, title="a.png")


def test_an_explanation_shows_every_module_and_both_boxes(tmp_path: Path) -> None:
    figure = explanation(3, true_box=[0, 0, 32, 16], truth="tiger cat")
    figures.save(figure, tmp_path / "a.png", dpi=40)
    assert {
        "a.png", "image", "where it looked", "Grad-CAM", "tabby", "✓ tiger cat", "60%",
        "stage1.0: mean", "stage1.1: mean", "stage2.0: mean", "from the masks", "true box",
    } <= texts(figure)  # fmt: skip
    # Boxes are in pixels of the saliency map, half those of the picture.
    assert frames(figure) == [(-0.5, -0.5, 64.0, 32.0), (7.5, 15.5, 24.0, 48.0)]


def test_the_channels_that_differ_most_from_place_to_place_are_drawn() -> None:
    mask = np.zeros((6, 2, 2))
    mask[[1, 4, 5, 2], 0, 0] = (0.2, 0.9, 0.5, 0.1)
    figure = figures.explanation_sheet(
        np.zeros((8, 8, 3), dtype=np.uint8), LABELS, SHARES, {"stage1.0": mask}
    )
    found = texts(figure)
    assert {"channel 4", "channel 5", "channel 1", "0.00 to 0.90"} <= found
    assert not {"channel 2", "channel 0", "Grad-CAM", "where it looked", "from the masks"} & found


@pytest.mark.parametrize("modules", [0, 3])
def test_explanations_of_any_network_and_size(modules: int, tmp_path: Path) -> None:
    nothing: dict[str, object] = {"saliency": None, "box": None} if modules == 0 else {}
    figures.save(explanation(modules, **nothing), tmp_path / "a.png", dpi=40)
    wide = figures.explanation_sheet(
        RNG.integers(0, 256, (20, 50, 3), dtype=np.uint8),
        LABELS[:1],
        SHARES[:1],
        {"stage1.0": RNG.random((1, 5, 9))},
        true_box=[np.nan] * 4,
    )
    figures.save(wide, tmp_path / "b.png", dpi=40)
    assert frames(wide) == []


def contact(images: int, *, maps: bool = True, truths: list[str] | None = None) -> Figure:
    pixels = [RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in range(images)]
    return figures.explanations_contact_sheet(
        pixels,
        [LABELS] * images,
        [SHARES] * images,
        saliency=[RNG.random((10, 10)) if maps else None] * images,
        boxes=[[1.0, 2.0, 5.0, 9.0] if maps else None] * images,
        grad_cam=[RNG.random((10, 10))] * images,
        truths=truths,
        true_boxes=[[0.0, 0.0, 10.0, 10.0]] * images if truths else None,
    )


def test_a_contact_sheet_has_a_card_an_image(tmp_path: Path) -> None:
    figure = contact(3, truths=["lynx"] * 2 + ["dugong"])
    figures.save(figure, tmp_path / "a.png", dpi=50)
    assert sum(len(card.axes) for card in figure.subfigs) == 3 * 4
    assert {"image", "where it looked", "Grad-CAM", "✓ lynx", "is: dugong"} <= texts(figure)
    assert frames(figure) == [(-0.5, -0.5, 20.0, 20.0), (1.5, 3.5, 8.0, 14.0)]


def test_contact_sheets_without_maps_of_one_and_of_none(tmp_path: Path) -> None:
    figures.save(contact(0), tmp_path / "none.png", dpi=40)
    figures.save(contact(1, maps=False), tmp_path / "one.png", dpi=40)
    assert "where it looked" not in texts(contact(3, maps=False))


def localization(baselines: list[bool]) -> Figure:
    count = len(baselines)
    scores = {
        "pointing": np.linspace(0.2, 0.8, count),
        "energy": np.linspace(0, 1.4, count),
        "box accuracy": np.linspace(0.5, 0.1, count),
    }
    return figures.localization_scores([f"map {k}" for k in range(count)], scores, baselines=baselines)


def test_localization_bars(tmp_path: Path) -> None:
    figure = localization([True, True, False, False])
    figures.save(figure, tmp_path / "a.png", dpi=50)
    pointing, energy, boxes = figure.axes
    assert [label.get_text() for label in pointing.get_yticklabels()] == [f"map {k}" for k in range(4)]
    assert [bar.get_width() for bar in pointing.patches] == pytest.approx([20, 40, 60, 80])
    assert {"80.0", "1.40", "50.0"} <= texts(figure)
    # The best of the readings in its own colour, the best baseline as a line.
    colors = [bar.get_facecolor() for bar in boxes.patches]
    assert colors[0] == colors[1] != colors[2] != colors[3]
    assert energy.lines[0].get_xdata()[0] == pytest.approx(1.4 / 3)


@pytest.mark.parametrize("baselines", [[True], [False], [True, True, True]])
def test_localization_of_baselines_only_and_of_none(baselines: list[bool], tmp_path: Path) -> None:
    figures.save(localization(baselines), tmp_path / "a.png", dpi=40)

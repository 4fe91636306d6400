"""What figures show, and the files they become."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from resattn import figures
from resattn.figures.style import cut_apart, headed_figure, short_name

RNG = np.random.default_rng(0)


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def history(rows: int) -> dict[str, np.ndarray]:
    step = np.arange(1, rows + 1) * 10.0
    columns = {name: np.full(rows, np.nan) for name in ("val_loss", "val_top1", "val_top5")}
    columns["val_loss"][-1], columns["val_top1"][-1], columns["val_top5"][-1] = 2.5, 0.4561, 0.7
    return {
        "step": step,
        "epoch": step / 100,
        "lr": np.linspace(0.1, 0, rows),
        "size": np.where(step < step.mean(), 48.0, 64.0),
        "train_loss": 5 - step / step[-1] + RNG.normal(0, 0.1, rows),
        "train_accuracy": step / step[-1] / 2,
        **columns,
    }


def test_arms_have_their_whole_names_and_partners_one_colour() -> None:
    curve = (np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    curves = {name: [curve] for name in ("basic, masks", "basic", "other", "other, twice")}
    figure = figures.curves_by_arm(
        curves, horizontal="step", vertical="%", partners={"basic, masks": "basic", "other, twice": "other"}
    )
    (axes,) = figure.axes
    assert {"basic, masks, 20.0", "basic, 20.0", "other, 20.0", "other, twice, 20.0"} <= texts(figure)
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    masks, basic, other, twice = looks
    assert masks[0] == basic[0] != other[0] == twice[0]
    assert [dash for _, dash in looks] == ["--", "-", "-", "--"]
    scores = figures.scores_by_arm({name: [1.0] for name in curves}, horizontal="%")
    assert set(curves) <= texts(scores)


def test_partners_in_a_circle_are_drawn_all_the_same() -> None:
    curve = (np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    figure = figures.curves_by_arm(
        {"a": [curve], "b": [curve]}, horizontal="step", vertical="%", partners={"a": "b", "b": "a"}
    )
    assert len(figure.axes[0].lines) == 2


def test_learning_curves_say_what_they_show() -> None:
    figure = figures.learning_curves(history(200), title="mini on shapes", subtitle="seed 0")
    loss, accuracy, rate, size = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "cross-entropy (nats)",
        "images recognised (%)",
        "learning rate",
        "image (px)",
    ]
    assert rate.get_xlabel() == size.get_xlabel() == "epoch"
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == [
        "training batches, mean of 8",
        "validation top-1, 45.6% at the end",
        "validation top-5, 70.0% at the end",
    ]
    assert "validation, 2.500 at the end" in [text.get_text() for text in loss.get_legend().get_texts()]
    assert {"mini on shapes", "seed 0", "48", "64"} <= texts(figure)
    drawn = accuracy.lines[0].get_ydata()
    assert len(drawn) == 200
    assert max(drawn) == pytest.approx(50)


def test_learning_curves_mean_keeps_level_at_the_ends() -> None:
    rows = {**history(100), "train_loss": np.full(100, 3.0)}
    mean = figures.learning_curves(rows).axes[0].lines[1]
    assert np.allclose(mean.get_ydata(), 3.0)


def test_learning_curves_of_short_and_odd_histories() -> None:
    coarse = history(9)
    coarse["epoch"] = np.zeros(9)
    assert figures.learning_curves(coarse).axes[2].get_xlabel() == "step"
    assert figures.learning_curves({"step": np.arange(3.0), "lr": np.ones(3)}).axes[0].has_data() is False
    many_sizes = {**history(80), "size": np.arange(80.0)}
    for rows in ({}, history(1), many_sizes):
        assert len(figures.learning_curves(rows).axes) == 4


def test_confusion_of_few_classes_is_annotated() -> None:
    confusion = np.array([[8, 2, 0], [1, 999, 0], [0, 0, 0]])
    figure = figures.confusion_matrix(confusion, ["ant, pismire", "bee", "cat"], title="T")
    found = texts(figure)
    assert {"80", "20", "100", "<1", "ant", "bee", "cat", "ant → bee", "2 of 10", "1 of 1,000"} <= found
    assert figure.axes[0].get_xlabel() == "predicted class"
    assert figure.axes[0].get_ylabel() == "right class"


@pytest.mark.parametrize("classes", [2, 13, 31, 200])
def test_confusion_of_many_classes(classes: int, tmp_path: Path) -> None:
    confusion = RNG.integers(0, 3, (classes, classes)) + 40 * np.eye(classes, dtype=int)
    confusion[1, 0] = 77
    names = [f"class number {k}" for k in range(classes)]
    figure = figures.confusion_matrix(confusion, names, pairs=5)
    figures.save(figure, tmp_path / "confusion.png", dpi=50)
    found = texts(figure)
    assert "class number 1 → class number 0" in found
    assert f"77 of {int(confusion[1].sum())}" in found
    assert sum("→" in text for text in found) == 1 + min(5, classes * (classes - 1))
    assert ("class number 0" in found) == (classes <= 30)
    assert ("right class (number)" in found) == (classes > 30)


def test_confusion_without_mistakes_and_without_images() -> None:
    assert any(
        "every image was recognised" in text
        for text in texts(figures.confusion_matrix(np.eye(2, dtype=int), "ab"))
    )
    figures.confusion_matrix(np.zeros((40, 40), dtype=int), ["name"] * 40)
    with pytest.raises(ValueError, match="there are 3 names"):
        figures.confusion_matrix(np.eye(2, dtype=int), "abc")


def sheet(images: int, *, masks: bool, truths: list[str] | None = None) -> Figure:
    pixels = [RNG.integers(0, 256, (20, 10 + k, 3), dtype=np.uint8) for k in range(images)]
    found = {
        "stage1.0": RNG.random((images, 7, 5, 5)),
        "stage2.0": np.full((images, 3, 3), 0.25),
        "stage2.1": np.full((images, 3, 3), 0.75),
    }
    shares = np.tile([0.6, 0.2, 0.1], (images, 1))
    labels = [["tabby, tabby cat", "tiger cat", "lynx"]] * images
    return figures.predictions_sheet(pixels, labels, shares, found if masks else None, truths=truths)


def test_sheet_has_a_card_an_image() -> None:
    plain = sheet(7, masks=False)
    assert len(plain.axes[0].images) == 7
    figure = sheet(2, masks=True, truths=["tiger cat", "dugong"])
    # The image, and gray below the colours of each stage.
    assert len(figure.axes[0].images) == 2 * (1 + 2 * 2)
    assert max(figure.axes[0].get_xlim()) == figure.get_figwidth()
    assert {"image", "stage 1", "stage 2", "tabby", "✓ tiger cat", "is: dugong", "60%"} <= texts(figure)
    # Two modules of a stage, 0.25 and 0.75 all over, average to 0.5.
    assert "0.50 to 0.50" in texts(figure)


def test_sheet_of_one_image_and_of_none(tmp_path: Path) -> None:
    figures.save(sheet(1, masks=True), tmp_path / "one.png", dpi=50)
    figures.save(sheet(0, masks=False), tmp_path / "none.png", dpi=50)


def test_save_writes_what_the_suffix_says(tmp_path: Path) -> None:
    figure = figures.learning_curves(history(20), title="curves")
    figures.save(figure, tmp_path / "new" / "f.png", dpi=100)
    with Image.open(tmp_path / "new" / "f.png") as image:
        assert image.size == (1000, 580)
        assert np.asarray(image.convert("L")).std() > 10
    figures.save(figure, tmp_path / "f.SVG")
    assert ElementTree.parse(tmp_path / "f.SVG").getroot().tag.endswith("svg")
    figures.save(figure, tmp_path / "f.pdf")
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"f\.gif: figures are written as"):
        figures.save(figure, tmp_path / "f.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.SVG", "f.pdf", "new"]


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    rows = history(30)
    for suffix in ("png", "svg", "pdf"):
        files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
        for file in files:
            figures.save(figures.learning_curves(rows), file)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_odd_names_are_drawn_as_text(tmp_path: Path) -> None:
    names = ["$100 bill$", "猫", "caf\udce9", ", ", ""]
    figure = figures.confusion_matrix(np.eye(5, dtype=int), names)
    figures.save(figure, tmp_path / "odd.png")
    assert {"$100 bill$", "猫", "caf?"} <= texts(figure)
    assert short_name("a very long name that goes on and on") == "a very long name that…"


def study(trials: int, best: list[int], **changes: object) -> Figure:
    steps = np.arange(1, 5) * 100.0
    drawn = [(steps, np.linspace(0.1, 0.4, 4) - 0.0001 * k) for k in range(trials)]
    table = [{"trial": str(k), "top-1": "40%", "lr": "0.1"} for k in best]
    arguments = {"importances": {"lr": 0.75, "shift": 0.25}, "curves": drawn, "best": best, "table": table}
    return figures.study_overview(**{**arguments, **changes}, title="Study a")


def test_a_study_shows_importances_and_its_best_trials_over_the_others(tmp_path: Path) -> None:
    figure = study(9, [4, 2, 0])
    figures.save(figure, tmp_path / "study.png", dpi=50)
    bars, lines, _ = figure.axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["lr", "shift"]
    assert {"75 %", "25 %", "6 others", "Best trials", "top-1", "0.1"} <= texts(figure)
    heights = sorted(text.xy[1] for text in lines.texts if text.get_text() == "40.0")
    assert len(heights) == 3
    assert heights[0] == pytest.approx(39.96)
    assert min(np.diff(heights)) > 0.05 * max(heights), "figures beside curves that end alike lie apart"


def test_a_study_of_one_trial_of_failed_ones_and_of_many_fields(tmp_path: Path) -> None:
    nothing = (np.array([]), np.array([]))
    point = (np.array([3.0]), np.array([0.5]))
    one = study(1, [0], importances={})
    failed = study(0, [], importances={}, curves=[nothing, nothing])
    wide = [{f"augmentation.field_{k}": "0.12345" for k in range(20)}]
    many = study(1, [0], importances=dict.fromkeys(wide[0], 0.05), curves=[point, nothing], table=wide)
    for number, figure in enumerate((one, failed, many)):
        figures.save(figure, tmp_path / f"{number}.png", dpi=50)
    assert "too few finished trials to tell" in texts(one) & texts(failed)
    assert "no validation yet" in texts(failed)
    assert "no validation yet" not in texts(one)


def test_figures_need_no_screen_and_leave_the_users_style_alone(modules_alone: str) -> None:
    # Reading rcParams["backend"] would itself import pyplot.
    code = """
import sys, matplotlib, numpy
def style(): return [matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"]
before = style()
from resattn import figures
figures.confusion_matrix(numpy.eye(2, dtype=int), "ab")
assert "matplotlib.pyplot" not in sys.modules
assert style() == before
"""
    subprocess.run([sys.executable, "-c", modules_alone + code], check=True)


def test_a_long_title_takes_lines_that_fit(tmp_path: Path) -> None:
    question = "Does attention residual learning beat naive attention, and the more the deeper the network?"
    figure = headed_figure(9.0, 4.8, question, "as far as three seeds can tell")
    title, subtitle = figure.texts
    assert title.get_text().replace("\n", " ") == question
    figure.savefig(tmp_path / "figure.png")
    edges = [text.get_window_extent() for text in (title, subtitle)]
    assert all(edge.x1 < 9.0 * figure.dpi for edge in edges)
    assert edges[1].y1 < edges[0].y0


def test_a_curve_that_begins_far_above_the_others_does_not_flatten_them() -> None:
    steps, calm = np.arange(1, 9), np.linspace(3.0, 1.2, 8)
    curves = {
        "calm": [(steps, calm), (steps, calm + 0.1)],
        "wild": [(steps, np.array([100, 9, 2.3, *calm[3:]]))],
    }
    (axes,) = figures.curves_by_arm(curves, horizontal="step", vertical="loss").axes
    assert 0.8 < axes.get_ylim()[0] < 1.2 and 3.1 < axes.get_ylim()[1] < 9
    assert axes.texts[0].get_text() == "above the axis: wild (to 100)"
    (axes,) = figures.curves_by_arm({"calm": curves["calm"]}, horizontal="step", vertical="loss").axes
    assert not any("above" in text.get_text() for text in axes.texts)


def test_a_loss_that_begins_far_above_the_rest_does_not_flatten_the_curves_of_a_run() -> None:
    step = np.arange(1.0, 101.0)
    loss = 3.0 - step / 50
    wild = np.where(step < 4, 200.0, loss)

    def axis_of(train_loss: np.ndarray) -> tuple[float, str]:
        axes = figures.learning_curves({"step": step, "train_loss": train_loss, "val_loss": loss}).axes[0]
        return axes.get_ylim()[1], " ".join(text.get_text() for text in axes.texts)

    top, told = axis_of(wild)
    assert 3.0 < top < 20 and told == "above the axis: training (to 200)"
    top, told = axis_of(loss)
    assert 2.9 < top < 3.3 and not told


def test_names_that_are_cut_stay_different() -> None:
    names = [
        "plain",
        "inception residual attention, version 2",
        "inception residual attention, version 3",
        "inception residual attention, 10 % of labels wrong, whole",
        "inception residual attention, 30 % of labels wrong, whole",
    ]
    drawn = cut_apart(names, 30)
    assert list(drawn) == names and len(set(drawn.values())) == len(names)
    assert all(len(text) <= 30 for text in drawn.values())
    assert drawn["plain"] == "plain" and drawn[names[2]].endswith("version 3")

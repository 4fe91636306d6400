"""`resattn explain`: the files and lines it leaves, and what it says of what it cannot explain."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import resattn
from resattn import figures
from resattn.errors import ResattnError
from resattn.models.weights import save_weights
from resattn.serving import explained_files
from resattn_launcher import app

IDS = ("ant", "bee", "cat")


def weights(folder: Path, model: str) -> Path:
    torch.manual_seed(0)
    network = resattn.create_model(model, num_classes=len(IDS))
    metadata = {
        "data": "insects",
        "label_names": IDS,
        "label_descriptions": {name: f"the {name}, an insect" for name in IDS},
        "input_size": 32,
    }
    save_weights(folder / f"{model}.safetensors", network, metadata=metadata)
    return folder / f"{model}.safetensors"


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("weights"), "resattn_mini")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two images of odd sizes, one of them gray, and one more below."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(folder / "a.v2.png")
    Image.fromarray(rng.integers(0, 256, (33, 17), dtype=np.uint8)).save(folder / "b.png")
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / "more" / "B.png")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Draws empty figures, for tests that ask about files and words; how many images each contact sheet was of."""
    sheets: list[int] = []

    def contact_sheet(images: list[np.ndarray], *rest: object, **options: object) -> Figure:
        sheets.append(len(images))
        return Figure((1, 1))

    monkeypatch.setattr(figures, "explanation_sheet", lambda *rest, **options: Figure((1, 1)))
    monkeypatch.setattr(figures, "explanations_contact_sheet", contact_sheet)
    return sheets


def run(*arguments: object) -> None:
    app(["explain", *map(str, arguments)])


def test_a_figure_and_arrays_for_each_image_and_a_sheet(
    mini: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    run(mini, photos, "--out", out, "--top", 2, "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["a.v2.png", "b.png", "B.png"]
    names = ["a.v2-explanation", "b-explanation", "B-2-explanation"]
    expected = {f"{name}{suffix}" for name in names for suffix in (".png", ".npz")} | {"sheet.png"}
    assert {path.name for path in out.iterdir()} == expected
    for line, name in zip(lines, names, strict=True):
        assert (line["figure"], line["arrays"]) == (str(out / f"{name}.png"), str(out / f"{name}.npz"))
        assert len(line["labels"]) == len(line["probabilities"]) == 2
        with np.load(out / f"{name}.npz") as arrays:
            found = {key: arrays[key] for key in arrays}
        assert found.keys() == {
            "stage1.0", "stage2.0", "saliency", "box", "grad_cam", "probabilities", "labels", "explained",
        }  # fmt: skip
        assert found["stage1.0"].shape == (64, 8, 8)
        assert found["saliency"].shape == found["grad_cam"].shape == (32, 32)
        assert found["saliency"].max() == 1
        assert found["labels"].tolist() == list(IDS)
        assert found["explained"] == line["explained"] == line["labels"][0]
        assert found["probabilities"].max() == pytest.approx(line["probabilities"][0], rel=1e-4)
        assert found["box"].tolist() == line["box"]
    with Image.open(out / "sheet.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10


def test_one_image_has_no_sheet_and_its_lines_are_for_people(
    mini: Path, photos: Path, tmp_path: Path, quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    run(photos / "b.png", "--model", mini, "--out", tmp_path / "out")
    told = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b-explanation.png", "b-explanation.npz"}
    assert "the ant, an insect" in told
    assert "of 32 x 32 pixels" in told
    assert "Figures and arrays are in" in told


def test_a_network_without_masks_has_grad_cam_all_the_same(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photos / "b.png"
    run(weights(tmp_path, "resattn_mini_plain"), photo, photo, "--out", tmp_path / "out", "--json")
    told = capsys.readouterr()
    assert told.err.count("no masks that tell places") == 1
    assert [json.loads(line)["box"] for line in told.out.splitlines()] == [None, None]
    with np.load(tmp_path / "out" / "b-explanation.npz") as arrays:
        assert set(arrays) == {"grad_cam", "probabilities", "labels", "explained"}
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_any_class_can_be_explained(
    mini: Path, photos: Path, tmp_path: Path, quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    maps = []
    for name in IDS:
        out = tmp_path / name
        run(mini, photos / "b.png", "--class", f"THE {name}, an insect", "--out", out, "--json")
        assert json.loads(capsys.readouterr().out)["explained"] == name
        with np.load(out / "b-explanation.npz") as arrays:
            assert arrays["explained"] == name
            maps += [arrays["saliency"], arrays["grad_cam"]]
    run(mini, photos, "--out", tmp_path / "out", "--class", "bee")
    told = capsys.readouterr().out
    assert told.count("the maps are for:") == told.count("of 32 x 32 pixels") == 3
    for one, other in itertools.combinations(range(len(IDS)), 2):
        assert not np.allclose(maps[2 * one], maps[2 * other])
        assert not np.allclose(maps[2 * one + 1], maps[2 * other + 1])


def test_what_is_no_image_is_named_and_the_others_are_explained(
    mini: Path, photos: Path, tmp_path: Path, quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no image at all")
    with pytest.raises(ResattnError, match=r"notes\.txt") as told:
        run(mini, photos / "b.png", notes, photos / "a.v2.png", "--out", tmp_path / "out", "--json")
    assert "Pillow" in told.value.mend
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in line for line in lines] == [False, True, False]
    assert len(list((tmp_path / "out").iterdir())) == 5
    with pytest.raises(ResattnError, match="2 images could not be read"):
        run(mini, notes, photos / "b.png", notes, "--out", tmp_path / "out")
    assert capsys.readouterr().err.count("left out: ") == 2


def test_names_are_printed_as_they_are(
    photos: Path, tmp_path: Path, quick: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    photo = photos / "b [bold copy].png"
    (photos / "b.png").rename(photo)
    network = resattn.create_model("resattn_mini", num_classes=2)
    metadata = {"data": "cars", "label_names": ("a [front]", "b [rear]"), "input_size": 32}
    names = {"label_descriptions": {name: name for name in metadata["label_names"]}}
    save_weights(tmp_path / "cars.safetensors", network, metadata={**metadata, **names})
    run(tmp_path / "cars.safetensors", photo, "--out", tmp_path / "out")
    told = capsys.readouterr().out
    assert "b[boldcopy].png" in "".join(told.split())  # the line may be broken anywhere
    assert told.count("a [front]") == told.count("b [rear]") == 2


def test_long_names_are_cut(mini: Path, photos: Path, tmp_path: Path, quick: list[int]) -> None:
    for number in range(2):
        (photos / f"{'金' * 80}{number}.png").write_bytes((photos / "b.png").read_bytes())
    run(mini, photos, "--out", tmp_path / "out")
    written = sorted(file.name for file in (tmp_path / "out").glob("金*.png"))
    assert written == [f"{'金' * 60}-2-explanation.png", f"{'金' * 60}-explanation.png"]


def test_an_accent_may_be_written_in_two_ways(photos: Path, tmp_path: Path, quick: list[int]) -> None:
    network = resattn.create_model("resattn_mini", num_classes=2)
    known = {"data": "drinks", "label_names": ("caf\u00e9", "te"), "input_size": 32}
    names = {"label_descriptions": {name: name for name in known["label_names"]}}
    save_weights(tmp_path / "drinks.safetensors", network, metadata={**known, **names})
    run(tmp_path / "drinks.safetensors", photos / "b.png", "--class", "Cafe\u0301", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        "a.png",
    ],
)
def test_only_pixels_are_explained(images: object) -> None:
    network = resattn.create_model("resattn_mini", num_classes=2)
    with pytest.raises(ResattnError, match="not uint8 RGB, N x H x W x 3"):
        resattn.explain(network, images)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.png"], "nowhere.png does not exist"),
        (["b.png", "--top", "0"], "top is 0"),
        (["b.png", "--out", "b.png"], "cannot write"),
        (["b.png", "--class", "dog"], "knows no class 'dog'"),
        (["b.png", "--class", "an insect"], "'an insect' is the name of several classes: ant, bee, cat"),
    ],
)
def test_what_is_wrong_is_told(
    mini: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(photos)
    before = sorted(photos.rglob("*"))
    with pytest.raises(ResattnError) as refused:
        run(*arguments, "--model", mini)
    assert told in refused.value.what
    assert sorted(photos.rglob("*")) == before


def test_no_image_is_overwritten(mini: Path, photos: Path) -> None:
    (photos / "b.png").rename(photos / "sheet.png")
    with pytest.raises(ResattnError, match=r"sheet\.png is one of the images"):
        run(mini, photos, "--out", photos)
    (photos / "sheet.png").rename(photos / "a.v2-explanation.png")
    with pytest.raises(ResattnError, match=r"a\.v2-explanation\.png is one of the images"):
        run(mini, photos, "--out", photos)
    assert len(list(photos.iterdir())) == 3


def test_the_sheet_takes_the_first_images(
    mini: Path, photos: Path, tmp_path: Path, quick: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explained_files, "SHEET_IMAGES", 2)
    run(mini, photos, "--out", tmp_path / "out")
    assert quick == [2]

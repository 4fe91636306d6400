"""Images of every kind in, readable predictions out."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import resattn
from resattn.errors import ResattnError
from resattn.evaluation.inference import network_input
from resattn.hardware import reference_execution
from resattn.models.network import ResidualAttentionNetwork
from resattn.serving.predictor import Predictor

SIDE = 32
IDS = ("n01", "n02", "n03", "n04", "n05", "n06")
RED = (200, 30, 30)


@pytest.fixture(scope="module")
def network() -> ResidualAttentionNetwork:
    torch.manual_seed(0)
    made = resattn.create_model("resattn_mini", num_classes=len(IDS))
    # A fresh classifier is near uniform: spread it, so that images differ in their answers.
    with torch.no_grad():
        made.get_classifier().weight.mul_(30)
    made.pretrained_cfg = {
        **made.pretrained_cfg,
        "input_size": (3, SIDE, SIDE),
        "label_names": IDS,
        "label_descriptions": {label: f"thing {label}" for label in IDS[:-1]},
    }
    return made


@pytest.fixture
def predictor(network: ResidualAttentionNetwork) -> Predictor:
    return Predictor(network, execution=reference_execution("cpu"), batch_size=4)


def noise(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_prediction_is_the_networks_own(predictor: Predictor, network: ResidualAttentionNetwork) -> None:
    image = noise(1)
    network.eval()
    with torch.no_grad():
        shares = network(network_input(image[None], predictor.execution)).softmax(1)[0]
    order = shares.argsort(descending=True)
    (prediction,) = predictor.predict(image, top=3)
    assert prediction.labels == tuple(IDS[k] for k in order[:3].tolist())
    assert prediction.probabilities == pytest.approx(shares[order[:3]].tolist(), rel=1e-4)
    assert prediction.source is None
    assert prediction.masks is None
    everything = predictor.predict(image, top=100)[0]
    assert sorted(everything.labels) == list(IDS)
    assert sum(everything.probabilities) == pytest.approx(1, abs=1e-5)
    assert dict(zip(everything.labels, everything.descriptions, strict=True)) == {
        **{label: f"thing {label}" for label in IDS[:-1]},
        IDS[-1]: IDS[-1],
    }


def test_json_and_rows(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(noise(2)).save(tmp_path / "a.png")
    (prediction,) = predictor.predict(str(tmp_path / "a.png"), top=2, masks="mean")
    fields = json.loads(json.dumps(prediction.to_json()))
    assert list(fields) == ["source", "labels", "descriptions", "probabilities", "masks"]
    assert fields["source"] == str(tmp_path / "a.png")
    rows = zip(fields["labels"], fields["descriptions"], fields["probabilities"], strict=True)
    assert list(prediction.rows()) == list(rows)


def test_masks_mean_and_all(predictor: Predictor, network: ResidualAttentionNetwork) -> None:
    images = [noise(3), noise(4)]
    means, alls = (predictor.predict(images, masks=detail) for detail in ("mean", "all"))
    with torch.no_grad():
        expected = network.forward_with_masks(network_input(np.stack(images), predictor.execution)).masks
    for row in range(2):
        assert list(alls[row].masks) == list(expected)
        for key, mask in expected.items():
            assert alls[row].masks[key].shape == mask.shape[1:]
            assert np.allclose(alls[row].masks[key], mask[row].numpy(), atol=1e-5)
            assert np.allclose(means[row].masks[key], mask[row].mean(0).numpy(), atol=1e-5)


def test_network_without_attention_has_no_masks() -> None:
    network = resattn.create_model("resattn_mini_plain", num_classes=3)
    (prediction,) = Predictor(network, size=SIDE).predict(noise(0), masks="mean")
    assert prediction.masks == {}


def saved(folder: Path, name: str, image: Image.Image, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def red_files(folder: Path) -> Iterator[Path]:
    """One red picture in every mode that holds it, and in several containers."""
    red = Image.new("RGB", (50, 40), RED)
    yield saved(folder, "rgb.png", red)
    yield saved(folder, "rgb.jpg", red, quality=100)
    yield saved(folder, "rgb.webp", red, lossless=True)
    yield saved(folder, "rgb.bmp", red)
    yield saved(folder, "rgb.tif", red)
    yield saved(folder, "cmyk.jpg", red.convert("CMYK"), quality=100)
    yield saved(folder, "palette.gif", red.convert("P", palette=Image.Palette.ADAPTIVE))
    yield saved(folder, "opaque.png", red.convert("RGBA"))
    yield saved(folder, "no_suffix", red, format="PNG")


def test_every_mode_becomes_the_same_rgb(predictor: Predictor, tmp_path: Path) -> None:
    for path in red_files(tmp_path):
        pixels = predictor.pixels(path)
        assert pixels.shape == (SIDE, SIDE, 3), path.name
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - RED).max() <= 6, path.name


def test_images_from_memory_of_every_mode(predictor: Predictor) -> None:
    red = Image.new("RGB", (50, 40), RED)
    for mode in ("RGB", "RGBA", "CMYK", "YCbCr", "P", "HSV"):
        # The web palette dithers: its mean is the colour.
        mean = predictor.pixels(red.convert(mode)).mean((0, 1))
        assert np.abs(mean - RED).max() <= 8, mode
    for mode in ("L", "LA", "1", "I", "I;16"):
        pixels = predictor.pixels(Image.new(mode, (40, 50)))
        assert np.all(pixels == pixels[..., :1]), mode
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert np.all(predictor.pixels(clear) == 255)
    with pytest.raises(ResattnError, match="floating-point pixels"):
        predictor.pixels(Image.new("F", (40, 40)))


def test_exif_orientation_is_applied(predictor: Predictor, tmp_path: Path) -> None:
    upright = Image.new("RGB", (60, 60), "black")
    upright.paste("white", (0, 0, 60, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees when shown
    path = saved(tmp_path, "turned.jpg", upright.rotate(90), exif=exif, quality=100)
    for image in (path, Image.open(path)):
        pixels = predictor.pixels(image)
        assert pixels[: SIDE // 2 - 2].mean() > 245
        assert pixels[SIDE // 2 + 2 :].mean() < 10


def test_short_side_is_scaled_and_the_centre_kept(predictor: Predictor) -> None:
    wide = np.zeros((SIDE * 2, SIDE * 6, 3), dtype=np.uint8)
    wide[:, SIDE * 2 : SIDE * 4] = 255
    # Lanczos rings a little at the edges.
    assert predictor.pixels(wide).min() > 230
    # Antialiased: a fine chequerboard becomes gray, not black or white.
    board = np.indices((SIDE * 8, SIDE * 8)).sum(0) % 2 * 255
    assert np.abs(predictor.pixels(np.stack([board] * 3, 2).astype(np.uint8)).astype(int) - 127).max() < 12
    same = noise(5)
    assert np.array_equal(predictor.pixels(same), same)


def test_one_or_many_of_any_kind(predictor: Predictor, tmp_path: Path) -> None:
    image = noise(6)
    path = saved(tmp_path, "a.png", Image.fromarray(image))
    kinds: list[Any] = [image, Image.fromarray(image), path, str(path), Image.open(path), tmp_path]
    predictions = predictor.predict(kinds)
    assert len(predictions) == len(kinds)
    for prediction in predictions[1:]:
        assert prediction.labels == predictions[0].labels
        assert prediction.probabilities == pytest.approx(predictions[0].probabilities, abs=1e-5)
    sources = [prediction.source for prediction in predictions]
    assert sources == [None, None, *[str(path)] * 4]
    assert predictor.predict([]) == []


def test_order_and_batches(predictor: Predictor) -> None:
    images = [noise(k) for k in range(11)]
    together = predictor.predict(images)
    alone = [predictor.predict(image)[0] for image in images]
    for left, right in zip(together, alone, strict=True):
        assert left.labels == right.labels
        assert left.probabilities == pytest.approx(right.probabilities, abs=1e-5)


def test_folders_stream(predictor: Predictor) -> None:
    drawn = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal drawn
        while True:
            drawn += 1
            yield noise(drawn % 3)

    stream = predictor.stream(endless())
    for _ in range(10):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert drawn < 1000
    assert not torch.is_inference_mode_enabled()


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    whole = saved(folder, "whole.png", Image.fromarray(noise(7, 200, 200))).read_bytes()
    for name, content, reason in (
        ("text.jpg", b"not an image at all", "is not an image that Pillow can read"),
        ("empty.png", b"", "is empty"),
        ("short.png", whole[:2000], "is damaged or cut short"),
    ):
        (folder / name).write_bytes(content)
        yield folder / name, reason
    yield folder / "absent.png", "cannot be read"
    bomb = Image.new("1", (20_000, 20_000))
    yield saved(folder, "bomb.png", bomb), "20000 x 20000 pixels|more pixels than the limit"


def test_bad_images_are_named(predictor: Predictor, tmp_path: Path) -> None:
    for path, reason in bad_files(tmp_path):
        with pytest.raises(ResattnError, match=reason) as caught:
            list(predictor.stream([path]))
        assert str(path) in caught.value.what
        assert caught.value.mend
    with pytest.raises(ResattnError, match=r"absent\.png does not exist"):
        predictor.predict(tmp_path / "absent.png")
    with pytest.raises(ResattnError, match=r"cannot be read|is not a regular file"):
        list(predictor.stream([tmp_path]))


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_odd_arrays_are_refused(predictor: Predictor, array: np.ndarray) -> None:
    with pytest.raises(ResattnError, match="not uint8 RGB, H x W x 3"):
        predictor.predict(array)


def test_a_bad_image_takes_no_other_with_it(predictor: Predictor, tmp_path: Path) -> None:
    good = [saved(tmp_path, f"{k}.png", Image.fromarray(noise(k))) for k in range(6)]
    bad = tmp_path / "bad.png"
    bad.write_text("no")
    files = [*good[:5], bad, *good[5:]]
    before: list[str | None] = []
    with pytest.raises(ResattnError, match=r"bad\.png is not an image"):
        before.extend(prediction.source for prediction in predictor.stream(files))
    assert before == [str(path) for path in good[:5]]
    errors: list[ResattnError] = []
    after = [prediction.source for prediction in predictor.stream(files, on_error=errors.append)]
    assert after == [str(path) for path in good]
    assert [str(bad) in error.what for error in errors] == [True]


def test_arguments_are_checked(predictor: Predictor, network: ResidualAttentionNetwork) -> None:
    with pytest.raises(ResattnError, match="top is 0"):
        predictor.predict(noise(0), top=0)
    with pytest.raises(ResattnError, match="does not say what image size"):
        Predictor(torch.nn.Identity())
    with pytest.raises(ResattnError, match="batch_size is 0"):
        Predictor(network, batch_size=0)
    with pytest.raises(ResattnError, match="size is -3"):
        Predictor(network, size=-3)
    with pytest.raises(ResattnError, match="resattn_mini has no classifier"):
        Predictor(resattn.create_model("resattn_mini", num_classes=0), size=SIDE)
    oblong = resattn.create_model("resattn_mini", num_classes=2)
    oblong.pretrained_cfg["input_size"] = (3, 32, 64)
    with pytest.raises(ResattnError, match="takes images of 3 x 32 x 64"):
        Predictor(oblong)
    for not_an_image in (b"bytes", io.BytesIO(b"bytes")):
        with pytest.raises(ResattnError, match="is of type bytes|is of type BytesIO"):
            predictor.predict(not_an_image)
    assert Predictor(network, size=48).pixels(noise(0)).shape == (48, 48, 3)


def test_layers_that_were_frozen_stay_so(network: ResidualAttentionNetwork) -> None:
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    network.train()
    norms[0].eval()
    Predictor(network, size=SIDE).predict(noise(0))
    assert network.training and norms[1].training and not norms[0].training
    network.eval()


def test_network_without_names_gives_numbers() -> None:
    network = resattn.create_model("resattn_mini", num_classes=3)
    (prediction,) = Predictor(network, size=SIDE).predict(noise(0))
    assert sorted(prediction.labels) == ["0", "1", "2"]
    assert prediction.descriptions == prediction.labels


def test_broken_weights_are_told() -> None:
    network = resattn.create_model("resattn_mini", num_classes=3)
    with torch.no_grad():
        network.get_classifier().bias.fill_(float("nan"))
    with pytest.raises(ResattnError, match="not finite"):
        Predictor(network, size=SIDE).predict(noise(0))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_does_not_hang(predictor: Predictor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ResattnError, match="is not a regular file"):
        predictor.predict(tmp_path)

"""Weights that ship with the package: found, checked, and loaded by us and by timm, without a download."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
import yaml

import resattn
from resattn.data.packed import open_split
from resattn.data.tiny_imagenet import prepare_tiny_imagenet
from resattn.errors import ResattnError
from resattn.evaluation.classification import evaluate
from resattn.models import catalog, pretrained
from resattn.models.loading import network_and_images
from resattn.models.weights import load_weights
from resattn.serving.predictor import Predictor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped(trained_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the weights folder, to be spoilt."""
    folder = Path(shutil.copytree(trained_dots.release, tmp_path / "pretrained"))
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


def logits(network: Any) -> torch.Tensor:
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network.eval()(images)


def test_every_way_to_load_gives_the_released_network(trained_dots) -> None:
    expected = logits(load_weights(trained_dots.release / "resattn_mini.safetensors"))
    for network in (
        resattn.load("resattn_mini"),
        resattn.create_model("resattn_mini", pretrained=True),
        timm.create_model("resattn_mini", pretrained=True),
    ):
        torch.testing.assert_close(logits(network), expected, rtol=0, atol=0)
        assert network.pretrained_cfg["label_names"] == ("blue", "red")
        assert network.pretrained_cfg["input_size"] == (3, 24, 24)
        assert network.options["mask_width"] == 8  # the weights' own, though nobody asked for it


def test_timm_swaps_the_head_and_keeps_the_rest(trained_dots) -> None:
    whole = resattn.load("resattn_mini")
    swapped = timm.create_model("resattn_mini", pretrained=True, num_classes=5)
    assert logits(swapped).shape == (2, 5)
    assert "label_names" not in swapped.pretrained_cfg
    features = timm.create_model("resattn_mini", pretrained=True, num_classes=0)
    assert logits(features).shape == (2, 256)
    images = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        for network in (swapped.eval(), features.eval()):
            torch.testing.assert_close(network.forward_features(images), whole.forward_features(images))


def test_other_channels_adapt_the_first_convolution(trained_dots) -> None:
    whole = resattn.load("resattn_mini")
    gray = timm.create_model("resattn_mini", pretrained=True, in_chans=1).eval()
    torch.testing.assert_close(
        gray.stem[0].weight, whole.stem[0].weight.sum(1, keepdim=True), rtol=1e-2, atol=1e-3
    )
    assert gray(torch.rand(1, 1, 24, 24)).shape == (1, 2)
    assert gray.pretrained_cfg["input_size"][0] == 1
    with pytest.raises(ResattnError, match="takes images of 1 x"):
        Predictor(gray)


def test_weights_of_one_s_own_are_left_to_timm(trained_dots) -> None:
    options = {"file": str(trained_dots.run / "weights.safetensors"), "num_classes": 2}
    network = timm.create_model(
        "resattn_mini", pretrained=True, mask_width=8, num_classes=2, pretrained_cfg_overlay=options
    )
    torch.testing.assert_close(logits(network), logits(resattn.load(trained_dots.run)), rtol=0, atol=0)
    described = timm.models.PretrainedCfg(**{**network.default_cfg, **options})
    same = timm.create_model("resattn_mini", pretrained=True, mask_width=8, pretrained_cfg=described)
    torch.testing.assert_close(logits(same), logits(network), rtol=0, atol=0)
    address = {"url": "http://127.0.0.1:9/weights.safetensors"}  # where nobody is: not the shipped ones
    with pytest.raises(URLError):
        timm.create_model("resattn_mini", pretrained=True, pretrained_cfg_overlay=address)


def test_options_that_change_the_layers_are_refused(trained_dots) -> None:
    for options in (
        {"mask_width": 16},
        {"mask_width": 16, "num_classes": 3},
        # With another head timm would load what it finds and leave the rest as it is.
        {"stem_units": 1, "num_classes": 3},
        {"trunk_units": 2, "num_classes": 3},
    ):
        with pytest.raises(ResattnError, match="do not fit these options"):
            resattn.create_model("resattn_mini", pretrained=True, **options)
    assert resattn.create_model("resattn_mini", pretrained=True, num_classes=3, in_chans=1).num_classes == 3
    assert resattn.create_model("resattn_mini", pretrained=True, drop_rate=0.5).head.dropout.p == 0.5


def test_a_network_without_weights_names_those_that_have_some(trained_dots) -> None:
    for make in (lambda name: resattn.create_model(name, pretrained=True), resattn.load):
        with pytest.raises(ResattnError) as refused:
            make("resattn_small")
        assert refused.value.what == "no weights ship for resattn_small"
        assert "(resattn_mini)" in refused.value.mend
        assert "resattn train --model resattn_small" in refused.value.mend


def test_damage_is_told_with_the_file_and_the_mend(shipped: Path) -> None:
    file = shipped / "resattn_mini.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    for make in (
        lambda: timm.create_model("resattn_mini", pretrained=True),
        lambda: resattn.load("resattn_mini"),
    ):
        with pytest.raises(ResattnError, match="is damaged") as refused:
            make()
        assert str(file) in refused.value.what
        assert "install resattn again" in refused.value.mend
    facts = shipped / "resattn_mini.json"
    facts.write_text(json.dumps({"model": "resattn_mini"}))
    with pytest.raises(ResattnError, match=r"resattn_mini.json is damaged: KeyError 'file'"):
        resattn.load("resattn_mini")


@pytest.mark.parametrize(("others_top1", "taken"), [(0.0, "resattn_mini"), (1.1, "resattn_small")])
def test_where_none_is_named_the_best_that_ships_is_taken(
    shipped: Path, others_top1: float, taken: str
) -> None:
    facts = json.loads((shipped / "resattn_mini.json").read_text())
    (shipped / "resattn_small.json").write_text(json.dumps(facts | {"top1": others_top1}))
    shutil.copy(shipped / "resattn_mini.safetensors", shipped / "resattn_small.safetensors")
    assert pretrained.best_pretrained() == taken


def test_the_catalog_shows_what_they_reach(trained_dots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "list_variants", lambda: ["resattn_mini", "resattn_small"])
    rows = {row["model"]: row for row in catalog.describe_variants()}
    facts = json.loads((trained_dots.release / "resattn_mini.json").read_text())
    assert (rows["resattn_mini"]["top1"], rows["resattn_mini"]["data"]) == (facts["top1"], "dots")
    assert rows["resattn_small"]["top1"] is rows["resattn_small"]["weights"] is None


def test_networks_are_told_from_images(trained_dots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo, run = str(trained_dots.photo), str(trained_dots.run)
    assert network_and_images([photo]) == ("resattn_mini", [photo])
    assert network_and_images([photo, photo]) == ("resattn_mini", [photo, photo])
    assert network_and_images([run, photo]) == (run, [photo])
    assert network_and_images(["resattn_small", photo]) == ("resattn_small", [photo])
    assert network_and_images([run, photo], model="resattn_mini") == ("resattn_mini", [run, photo])
    (tmp_path / "resattn_small").mkdir()  # a folder of images that is called like a network
    assert network_and_images(["resattn_small"]) == ("resattn_mini", ["resattn_small"])
    with pytest.raises(ResattnError, match="no images are named"):
        network_and_images([run])
    with pytest.raises(ResattnError, match="no run folder, weights file or model name"):
        network_and_images(["nowhere", photo])
    for late in (run, "resattn_mini", "absent.onnx"):
        with pytest.raises(ResattnError, match="is a network, and stands behind"):
            network_and_images([photo, photo, late])
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(ResattnError, match="no network ships"):
        network_and_images([photo])


def test_a_wheel_holds_recipes_and_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith(".py")}
    source = ROOT / "src"
    kept = [*source.glob("resattn/training/recipes/*"), *source.glob("resattn/models/pretrained/*")]
    assert {path.relative_to(source).as_posix() for path in kept} <= packed
    assert "resattn/training/recipes/fine-tune.yaml" in packed


@pytest.fixture(params=pretrained.pretrained_names() or [None])
def really_shipped(request: pytest.FixtureRequest) -> pretrained.Pretrained:
    if request.param is None:
        pytest.skip(f"no weights ship with this checkout ({pretrained.FOLDER} is empty)")
    return pretrained.find_pretrained(request.param)


def test_what_ships_can_be_used(really_shipped: pretrained.Pretrained) -> None:
    network = resattn.load(really_shipped.model)
    names = network.pretrained_cfg["label_names"]
    assert len(names) == network.num_classes
    assert yaml.safe_load(really_shipped.recipe)["data"] == really_shipped.data
    assert really_shipped.file.with_suffix(".md").read_text().startswith(f"# {really_shipped.model}\n")
    assert timm.list_models(really_shipped.model, pretrained=True) == [really_shipped.model]
    assert timm.create_model(really_shipped.model, pretrained=True, num_classes=3).num_classes == 3


def test_what_ships_reaches_what_it_says(
    really_shipped: pretrained.Pretrained, tiny_imagenet_archive: Path, resattn_home: Path, tmp_path: Path
) -> None:
    assert really_shipped.data == "tiny-imagenet"
    prepare_tiny_imagenet(
        archive=with_one_training_image_a_class(tiny_imagenet_archive, tmp_path / "part.zip")
    )
    split = open_split(really_shipped.data, really_shipped.split)
    result = evaluate(resattn.load(really_shipped.model), split)
    assert (result.images, result.top1, result.top5) == (10_000, really_shipped.top1, really_shipped.top5)


def with_one_training_image_a_class(archive: Path, part: Path) -> Path:
    """A copy of Tiny ImageNet's archive that has all of val, and of train and test as little as is taken for whole."""
    with zipfile.ZipFile(archive) as real, zipfile.ZipFile(part, "w") as copy:
        for name in real.namelist():
            content = real.read(name) if name.endswith((".txt", "_0.JPEG")) or "/val/" in name else None
            if content is not None and name.endswith("_boxes.txt"):
                content = content.splitlines(keepends=True)[0]
            if content is not None:
                copy.writestr(name, content)
    return part

"""A release says what its own weights file does, to the digit."""

import contextlib
import hashlib
import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import resattn
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.evaluation.classification import evaluate
from resattn.evaluation.release import release
from resattn.models.weights import load_weights, read_metadata, save_weights
from resattn.training.run_folder import RunFolder


def test_the_figures_are_those_of_the_released_file(trained_dots) -> None:
    file = trained_dots.release / "resattn_mini.safetensors"
    facts = json.loads(file.with_suffix(".json").read_text())
    again = evaluate(load_weights(file), open_split("dots", "val"), flip="average").to_json()
    for name in (
        "data",
        "split",
        "images",
        "classes",
        "top1",
        "top5",
        "loss",
        "ece",
        "model",
        "flip_average",
    ):
        assert facts[name] == again[name], name
    assert facts["top1"] > 0.7
    assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (facts["stored_as"], facts["steps"], facts["seed"]) == ("float16", 16, 0)
    assert facts["options"] == {"mask_width": 8, "drop_rate": 0.1}


def test_the_file_is_half_precision_and_keeps_the_run_s_metadata(trained_dots) -> None:
    run, file = trained_dots.run / "weights.safetensors", trained_dots.release / "resattn_mini.safetensors"
    assert file.stat().st_size < 0.6 * run.stat().st_size
    with safe_open(file, framework="pt") as opened:
        assert opened.get_slice("head.fc.weight").get_dtype() == "F16"
    assert read_metadata(file) == read_metadata(run)


def test_the_number_format_that_was_asked_for_is_taken(trained_dots, tmp_path: Path) -> None:
    run = trained_dots.run / "weights.safetensors"
    made = release(run, environment={}, out=tmp_path, weights_as="float32")
    assert (made.stored_as, made.reason) == ("float32", "float32 was asked for")
    assert made.weights.stat().st_size > 0.9 * run.stat().st_size
    assert made.result.top1 == made.full.top1


def test_the_card_says_all_of_it(trained_dots) -> None:
    card = (trained_dots.release / "resattn_mini.md").read_text()
    facts = json.loads((trained_dots.release / "resattn_mini.json").read_text())
    environment = RunFolder(trained_dots.run).environment()
    with torch.no_grad():
        masks = resattn.load(trained_dots.run).forward_with_masks(torch.rand(1, 3, 24, 24)).masks
    for said in (
        "# resattn_mini\n", "24 x 24 pixel", f"modules have a mask: {', '.join(masks)} |", facts["sha256"],
        f"```yaml\n{(trained_dots.run / 'recipe.yaml').read_text().rstrip()}\n```", environment["cpu"],
        f"| commit | {environment['commit'] or 'not recorded'} |", "| seed | 0 |", "16 steps",
        f"| single view | {facts['top1']:.2%} |",
        f"| mean of image and mirror image | {facts['flip_average']['top1']:.2%} |",
        "| `resattn_mini` without these options | another network, of ",
        "| blue | blue | 12 |", "<details>", "Apache-2.0", "their owners'",
        "resattn predict resattn_mini.safetensors photo.jpg", "not meant for decisions",
    ):  # fmt: skip
        assert said in card
    (example,) = (line for line in card.splitlines() if "pretrained_cfg_overlay" in line)
    with contextlib.chdir(trained_dots.release):
        network = eval(example.removeprefix("network = "), {"timm": timm})
    loaded = load_file(trained_dots.release / "resattn_mini.safetensors")["stem.0.weight"]
    assert torch.equal(network.state_dict()["stem.0.weight"], loaded.float())
    assert str(trained_dots.home) not in card + json.dumps(facts)


def test_the_card_of_a_run_that_went_on_elsewhere_says_so(trained_dots, tmp_path: Path) -> None:
    began = RunFolder(trained_dots.run).environment()
    other = {**began, "versions": {**began["versions"], "pillow": "1"}}
    environment = {**began, "sittings": [other, {**other, "commit": "another", "cpu": "Another CPU"}]}
    release(trained_dots.run / "weights.safetensors", environment=environment, out=tmp_path, name="mine")
    card = (tmp_path / "mine.md").read_text()
    assert "| went on: commit | another |" in card and "| went on: machine | Another CPU; " in card
    assert card.count("went on") == 2 and f"| commit | {began['commit'] or 'not recorded'} |" in card
    assert "went on" not in (trained_dots.release / "resattn_mini.md").read_text()


def test_weights_that_half_precision_would_spoil_stay_as_they_are(trained_dots, tmp_path: Path) -> None:
    network = resattn.load(trained_dots.run)
    metadata = read_metadata(trained_dots.run / "weights.safetensors")
    with torch.no_grad():
        # Beside 1, half precision keeps nothing of these differences, and every image becomes "blue".
        network.get_classifier().weight.mul_(1e-4).add_(1)
        network.get_classifier().bias.mul_(1e-4)
    save_weights(tmp_path / "weights.safetensors", network, metadata=metadata)
    written = release(tmp_path / "weights.safetensors", environment={}, out=tmp_path / "out", name="mine")
    assert written.stored_as == "float32"
    assert "more than 0.02%" in written.reason
    assert written.result.top1 == written.full.top1 > 0.7
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "mine.safetensors", "mine.json", "mine.md",
    }  # fmt: skip
    with torch.no_grad():
        network.get_classifier().weight[0, 0] = 1e6
    save_weights(tmp_path / "weights.safetensors", network, metadata=metadata)
    written = release(tmp_path / "weights.safetensors", environment={}, out=tmp_path / "out")
    assert "cannot hold" in written.reason


def test_a_data_set_that_was_prepared_anew_is_refused(trained_dots, tmp_path: Path) -> None:
    run = RunFolder(trained_dots.run)
    began = {**run.environment(), "data_sha256": "of other files"}
    with pytest.raises(
        ResattnError, match="dots was prepared anew, from other files, since the training began"
    ):
        release(run.weights_file, environment=began, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_a_training_s_weights_are_released(trained_dots, tmp_path: Path) -> None:
    network = resattn.load(trained_dots.run)
    save_weights(tmp_path / "weights.safetensors", network, metadata={"data": "dots"})
    with pytest.raises(ResattnError, match="does not say how it was trained"):
        release(tmp_path / "weights.safetensors", environment={}, out=tmp_path)
    with pytest.raises(ResattnError, match=r"environment.json cannot be read"):
        RunFolder(tmp_path).environment()

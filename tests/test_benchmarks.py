"""The benchmarks run, their tables have the rows, their JSON the figures; how fast anything is, is not asked."""

import importlib
import importlib.util
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Import = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Import:
    """Imports a benchmark by its name, as it imports its neighbours when it is run."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def run(script: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, Any]]:
    """Runs a benchmark's short form: what it prints, and the results in its JSON."""

    def run_short(name: str, *options: str) -> tuple[str, Any]:
        script(name).main(["--short", "--json", str(tmp_path / "out.json"), *options])
        record = json.loads((tmp_path / "out.json").read_text())
        assert record["benchmark"] == name
        assert record["form"] == "short"
        assert record["machine"]["cores"] > 0
        return capsys.readouterr().out, record["results"]

    return run_short


def positive(spread: dict[str, float]) -> bool:
    return 0 < spread["low"] <= spread["median"] <= spread["high"]


def test_contestants_take_turns_and_ratios_are_formed_within_a_turn(script: Import) -> None:
    measuring = script("measuring")
    order: list[str] = []

    def contestant(name: str, figures: list[float]) -> Callable[[], float]:
        return lambda: order.append(name) or figures.pop(0)  # type: ignore[func-returns-value]

    turns = measuring.alternate({"a": contestant("a", [2, 4]), "b": contestant("b", [1, 8])}, 2)
    assert order == ["a", "b", "a", "b"]
    assert measuring.ratios(turns["a"], turns["b"]) == measuring.Spread(1.25, 0.5, 2.0)
    assert str(measuring.Spread.of([3, 1, 2])) == "2 (1..3)"
    lines = measuring.table(["what", "n"], [["long name", 1], ["x", 22]]).splitlines()
    assert [len(line) for line in lines] == [13, 13, 13, 13]


def test_a_cell_has_a_process_and_settings_of_its_own(
    script: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = script("measuring")
    cell = tmp_path / "cell.py"
    cell.write_text(
        f"import os, sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\nimport measuring\nmeasuring.like_the_command()\n"
        "measuring.start(print, lambda cell: [cell['n'] + 1, os.environ.get('GOMP_SPINCOUNT')])\n"
    )
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert measuring.in_fresh_process(str(cell), {"n": 1}) == [2, "10000"]
    assert measuring.in_fresh_process(str(cell), {"n": 1}, settings=measuring.USER_SETTINGS) == [2, None]
    with pytest.raises(SystemExit, match="failed"):
        measuring.in_fresh_process(str(cell), {})


# From Python 3.12 on, forking a loader's workers out of a process with threads is warned of.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_input_pipeline(run, trained_dots) -> None:
    out, results = run("input_pipeline", "--data", "dots", "--batch-size", "8", "--batches", "2")
    assert list(results) == ["resattn", *(f"ImageFolder + DataLoader, {n} workers" for n in (0, 2))]
    assert all(name in out for name in results)
    assert all(positive(one["resattn_is_times_as_fast"]) for one in results.values())


def test_step_efficiency(run, trained_dots) -> None:
    options = ("--data", "dots", "--batch-size", "8", "--precision", "fp32", "--product-side", "64")
    out, results = run("step_efficiency", *options)
    assert list(results["sizes"]) == ["16", "24"]
    assert all(positive(one["share_of_peak"]["fp32"]) for one in (*results["sizes"].values(), results["run"]))
    shares = results["operators"]["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares[name] for name in ("convolution, forward", "convolution, backward", "optimizer")) > 0
    assert "whole run" in out


def test_small_maps(run, script: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script("small_maps"), "BATCH", 2)
    out, results = run("small_maps")
    assert len(results) == 14
    assert all(positive(one["ratio"]) for one in results.values())
    assert {one["taken"] for one in results.values()} == {"product", "convolution"}
    assert "512 to 512, 2x2, stride 1" in out


@pytest.fixture
def inference(script: Import, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark of inference with its cells in this process, whose number of threads is put back."""
    module = script("inference")
    monkeypatch.setattr(module.measuring, "in_fresh_process", lambda _, cell: module.measure_cell(cell))
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.mark.long
def test_inference(run, inference: ModuleType, trained_dots) -> None:
    out, results = run("inference", str(trained_dots.run), "--batches", "1", "3")
    assert list(results) == ["1", "3"]
    assert list(results["1"]) == list(inference.WAYS)
    assert all(positive(one["times_as_fast_as_fp32"]) for ways in results.values() for one in ways.values())
    assert all(
        name in out for name in ("fp32, channels last, folded", "ONNX Runtime, int8", "OpenVINO, int8")
    )
    assert "images of dots val" in out


def test_inference_of_a_named_network_takes_noise(inference: ModuleType, resattn_home: Path) -> None:
    network, again = (inference.open_network("resattn_mini_plain") for _ in range(2))
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(network(images), again(images))
    split = inference.split_or_noise(network, "train")
    assert (split.data, split.split, split.images.shape) == ("noise", "train", (64, 64, 64, 3))


@pytest.mark.parametrize("name", ["resattn_mini", "resattn_cifar_56", "seed_inception"])
def test_folding_changes_no_output(script: Import, name: str) -> None:
    inference = script("inference")
    network = inference.open_network(name)
    folded = inference.folded(network)
    norms = [sum(isinstance(one, nn.BatchNorm2d) for one in net.modules()) for net in (network, folded)]
    assert norms[1] < norms[0]
    side = inference.input_side(network)
    images = torch.rand(2, 3, side, side)
    with torch.inference_mode():
        expected = network(images)
        assert float((folded(images) - expected).abs().max() / expected.std()) < 1e-3


def test_a_way_that_gives_other_logits_ends_the_benchmark(script: Import) -> None:
    inference = script("inference")
    logits = torch.rand(4, 5)
    nearly = (logits + 1e-5).tolist()
    same = {inference.REFERENCE: logits.tolist(), "fp32, channels last": nearly, "ONNX Runtime, int8": nearly}
    inference.require_same(same)
    with pytest.raises(SystemExit, match="OpenVINO, fp32 gives other logits"):
        inference.require_same({**same, "OpenVINO, fp32": torch.rand(4, 5).tolist()})
    with pytest.raises(SystemExit, match="ONNX Runtime, int8 gives other logits"):
        inference.require_same({**same, "ONNX Runtime, int8": [[float("nan")] * 5] * 4})


def test_scaling(script: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = script("scaling")
    monkeypatch.setattr(scaling.measuring, "in_fresh_process", lambda _, cell: scaling.measure_cell(cell))
    base = {"images": 64, "side": 16, "width": 1, "batch": 4, "processes": 1}
    cells = {f"pixels x{factor}": scaling.grown(base, "pixels", factor) for factor in (1, 4)}
    assert cells["pixels x4"]["side"] == 32
    results = scaling.measure_group(cells, tmp_path, rounds=1, steps=1, precision="fp32")
    assert all(positive(one["seconds_an_epoch"]) and positive(one["peak_memory"]) for one in results.values())
    assert results["pixels x4"]["arithmetic_times_the_first"] == pytest.approx(4, rel=0.1)
    assert "pixels x4" in scaling.shown({"pixels": results})


@pytest.mark.long
def test_two_processes_meet(script: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = script("scaling")
    # This process is the first of the two.
    monkeypatch.setattr(scaling.measuring, "in_fresh_process", lambda _, cell: scaling.measure_cell(cell))
    threads = torch.get_num_threads()
    cells = {"processes x2": {"images": 64, "side": 16, "width": 1, "batch": 4, "processes": 2}}
    try:
        results = scaling.measure_group(cells, tmp_path, rounds=1, steps=1, precision="fp32")
    finally:
        torch.set_num_threads(threads)
    assert positive(results["processes x2"]["seconds_an_epoch"])


@pytest.fixture
def accuracy_script(script: Import, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark of accuracy with a tiny peer, in this process, that loads without workers."""
    module = script("accuracy_at_equal_time")
    for name in ("WARMUP", "TIMED_STEPS"):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(module, "WORKERS", 0)

    def tiny(classes: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, max(classes, 5)))

    monkeypatch.setitem(module.PEERS, "timm-resnet18", tiny)
    monkeypatch.setattr(
        module.measuring, "in_fresh_process", lambda _, cell, settings: module.train_peer(cell)
    )
    return module


def test_accuracy_at_equal_time_goes_on_where_it_was_killed(
    accuracy_script: ModuleType, trained_dots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "accuracy.json"
    arguments = ["--data", "dots", "--recipe", "none", "--minutes", "0.001", "--repeats", "2"]
    arguments += ["--peer-batch-size", "32", "--json", str(file)]
    options = accuracy_script.options_of(arguments)
    record = accuracy_script.measuring.record(options, "?", {"commit": "earlier"}, {})
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "seed1").symlink_to(trained_dots.run)
    earlier = {"top1": 0.5, "top5": 1.0, "train_seconds": 1.0, "steps": 1, "images": 8, "commit": "earlier"}
    record["results"] = {"runs": str(runs), "finished": [{"name": "resattn", "seed": 0, **earlier}]}
    accuracy_script.measuring.write_json(file, record)
    accuracy_script.main(arguments)
    finished = json.loads(file.read_text())["results"]["finished"]
    assert [(one["name"], one["seed"]) for one in finished] == [
        ("resattn", 0),
        ("timm-resnet18", 0),
        ("resattn", 1),
        ("timm-resnet18", 1),
    ]
    assert finished[0]["commit"] == "earlier" != finished[2]["commit"]
    assert all(0 <= one["top1"] <= one["top5"] <= 1 and one["train_seconds"] > 0 for one in finished)
    assert [len(one.get("curve", [])) for one in finished] == [0, 4, 1, 4]
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "timm-resnet18" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="another benchmark's results"):
        accuracy_script.main([*arguments, "--peer-batch-size", "8"])


def test_peers_are_what_they_are_called(script: Import) -> None:
    for make in script("accuracy_at_equal_time").PEERS.values():
        assert make(7)(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_the_usual_folders_are_unpacked_from_the_archive(
    script: Import, resattn_home: Path, tmp_path: Path
) -> None:
    classes = ("n01443537", "n07749582")
    picture = tmp_path / "picture.jpeg"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(picture)
    archive = tmp_path / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("tiny-imagenet-200/wnids.txt", "\n".join(classes))
        file.writestr("tiny-imagenet-200/words.txt", "\n".join(f"{one}\tword" for one in classes))
        for label, one in enumerate(classes):
            folder = f"tiny-imagenet-200/train/{one}"
            file.writestr(f"{folder}/{one}_boxes.txt", f"{one}_0.JPEG\t0\t0\t63\t63\n")
            file.write(picture, f"{folder}/images/{one}_0.JPEG")
            file.write(picture, f"tiny-imagenet-200/val/images/val_{label}.JPEG")
        lines = (f"val_{label}.JPEG\t{one}\t0\t0\t63\t63\n" for label, one in enumerate(classes))
        file.writestr("tiny-imagenet-200/val/val_annotations.txt", "".join(lines))
    folder = script("usual_pipeline").image_folder("tiny-imagenet", archive=archive)
    assert (folder / "val" / classes[1] / "val_1.JPEG").read_bytes() == picture.read_bytes()
    images, labels = next(
        iter(script("usual_pipeline").usual_loader(folder, split="train", side=64, batch_size=2, workers=0))
    )
    assert images.shape == (2, 3, 64, 64)
    assert sorted(labels.tolist()) == [0, 1]


def test_attention_56_is_the_same_network(script: Import) -> None:
    if importlib.util.find_spec("pytorchcv") is None:
        pytest.skip("needs the peer: pip install pytorchcv")
    attention = script("attention56_against_pytorchcv")
    ours = attention.our_contestant(attention.OURS)[0]
    theirs = attention.their_contestant(attention.USUAL)[0]
    assert sum(map(torch.numel, ours.parameters())) == sum(map(torch.numel, theirs.parameters()))
    shapes = [sorted(tuple(one.shape) for one in net.parameters()) for net in (ours, theirs)]
    assert shapes[0] == shapes[1]

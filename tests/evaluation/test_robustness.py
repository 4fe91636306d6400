"""Mean corruption accuracy by hand, its files, and the official archive."""

import csv
import dataclasses
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import resattn
from resattn.errors import ResattnError
from resattn.evaluation import classification, robustness
from resattn.evaluation.corruptions import FAMILIES, Corruption
from resattn.evaluation.robustness import (
    evaluate_corruption_archive,
    evaluate_corruptions,
    write_robustness,
)
from resattn.tables import print_robustness

Make = Callable[..., Any]
# Image with red value k is taken for class k.
IDENTITY = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
IDS = ("ant", "bee", "cat")


def red(image: np.ndarray, value: int, _: np.random.Generator) -> np.ndarray:
    changed = image.copy()
    changed[..., 0] = value
    return changed


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of the thirteen: one that shows class 0, 1, 2, 0, 1 in place of the image, and one that does nothing."""
    for name in list(FAMILIES):
        monkeypatch.delitem(FAMILIES, name)
    monkeypatch.setitem(FAMILIES, "nothing", Corruption("digital", lambda image, *_: image, (0,) * 5))
    monkeypatch.setitem(FAMILIES, "paint", Corruption("noise", red, (0, 1, 2, 0, 1)))


@pytest.mark.usefixtures("two_families")
def test_mean_corruption_accuracy_by_hand(oracle: Make, make_split: Make) -> None:
    split = make_split([0, 1, 2, 1], [0, 1, 2, 0])
    result = evaluate_corruptions(oracle(IDENTITY), split, batch_size=3, progress=False)
    assert (result.images, result.clean_top1) == (4, 3 / 4)
    paint, nothing = result.families
    # Half the images are ants, a quarter bees, a quarter cats.
    assert (paint.name, paint.kind, paint.top1) == ("paint", "noise", (0.5, 0.25, 0.25, 0.5, 0.25))
    assert nothing.top1 == (0.75,) * 5
    assert paint.images == nothing.images == (4,) * 5
    assert paint.mean == pytest.approx(0.35)
    assert result.mean_corruption_accuracy == pytest.approx((0.35 + 0.75) / 2)
    assert (result.data, result.split, result.corruptions) == ("insects", "val", "made here")
    assert (result.model, result.precision, result.notes) == ("oracle", "fp32", ())
    assert result.examples["paint"][:, 0, 0, 0].tolist() == [0, 2, 1]


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return resattn.create_model("resattn_mini_plain", num_classes=3)


def coloured(make_split: Make, count: int) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return dataclasses.replace(make_split([0] * count, [k % 3 for k in range(count)]), images=images)


def test_all_families_whatever_the_batch(make_split: Make) -> None:
    split, network = coloured(make_split, 7), small_network().train()
    one = evaluate_corruptions(network, split, batch_size=7, progress=False)
    other = evaluate_corruptions(network, split, batch_size=2, progress=False)
    assert [score.top1 for score in one.families] == [score.top1 for score in other.families]
    assert {score.name for score in one.families} == set(FAMILIES)
    assert one.clean_top1 == classification.evaluate(network, split, progress=False).top1
    kinds = [score.kind for score in one.families]
    assert kinds == sorted(kinds, key=["noise", "blur", "weather", "digital"].index)
    assert network.training
    assert all(pictures.shape == (3, 32, 32, 3) for pictures in one.examples.values())


@pytest.mark.usefixtures("two_families")
def test_what_an_image_becomes_does_not_depend_on_the_limit(
    make_split: Make, oracle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    plain = robustness.corrupt

    def spy(images: np.ndarray, family: str, severity: int, *, seeds: Any) -> np.ndarray:
        seen.append([int(seed) for seed in seeds])
        return plain(images, family, severity, seeds=seeds)

    monkeypatch.setattr(robustness, "corrupt", spy)
    split = make_split([0] * 20, [0] * 10 + [-1] + [0] * 9)
    evaluate_corruptions(oracle(IDENTITY), split, limit=4, progress=False)
    assert seen[0] == [0, 4, 9, 15], "numbers in the split, those without a label left out"


@pytest.mark.usefixtures("two_families")
def test_mistakes_are_told(oracle: Make, make_split: Make) -> None:
    with pytest.raises(ResattnError, match="has no labels"):
        evaluate_corruptions(oracle(IDENTITY), make_split([0], [-1]), progress=False)
    with pytest.raises(ResattnError, match="different classes"):
        evaluate_corruptions(oracle(IDENTITY, ["ant", "bee", "cow"]), make_split([0], [0]), progress=False)
    with pytest.raises(ResattnError, match="batch size is 0"):
        evaluate_corruptions(oracle(IDENTITY), make_split([0], [0]), batch_size=0, progress=False)
    with pytest.raises(ResattnError, match="limit is 0"):
        evaluate_corruptions(oracle(IDENTITY), make_split([0], [0]), limit=0, progress=False)
    broken = oracle([[float("nan")] * 3] * 3).train()
    with pytest.raises(ResattnError, match="not finite"):
        evaluate_corruptions(broken, make_split([0], [0]), progress=False)
    assert broken.training


@pytest.mark.usefixtures("two_families")
def test_results_are_written_whole(
    oracle: Make, make_split: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate_corruptions(oracle(IDENTITY), make_split([0, 1], [0, 2]), progress=False)
    folder = tmp_path / "new" / "results"
    write_robustness(result, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "corruptions.csv", "corruptions.json", "corruptions.png",
    ]  # fmt: skip
    fields = json.loads((folder / "corruptions.json").read_text())
    assert fields == result.to_json()
    assert fields["mean_corruption_accuracy"] == result.mean_corruption_accuracy
    assert fields["families"]["paint"]["top1"] == [0.5, 0, 0.5, 0.5, 0]
    with (folder / "corruptions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:2] == [["family", "kind", "severity", "images", "top1"], ["paint", "noise", "1", "2", "0.5"]]
    assert len(rows) == 11
    assert np.asarray(Image.open(folder / "corruptions.png")).std() > 10
    print_robustness(result)
    printed = capsys.readouterr().out
    assert (
        "paint" in printed and "Mean corruption accuracy 40.00%, 80% of the clean top-1, 50.00%." in printed
    )
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResattnError, match=r"cannot write .*file.corruptions\.csv"):
        write_robustness(result, tmp_path / "file")


def archive_files(
    codes: dict[str, int], *, ids: tuple[str, ...] = IDS, per_class: int = 1
) -> dict[str, bytes]:
    """For each family, at all severities, images of every class that are all taken for class `codes[family]`."""
    files = {}
    for family, code in codes.items():
        file = io.BytesIO()
        Image.new("RGB", (6, 4), (code, 0, 0)).save(file, "PNG")
        for severity in range(1, 6):
            for class_id in ids:
                for number in range(per_class):
                    name = f"Tiny-ImageNet-C/{family}/{severity}/{class_id}/{number}.JPEG"
                    files[name] = file.getvalue()
    return files


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_the_official_archive_as_tar_and_as_folder(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    files = archive_files({"snow": 1, "glass_blur": 2, "my_own": 0})
    # At severity 5 the snow shows the right class.
    for code, class_id in enumerate(IDS):
        other = archive_files({"snow": code})
        name = f"Tiny-ImageNet-C/snow/5/{class_id}/0.JPEG"
        files[name] = other[name]
    path = packed(tmp_path / "Tiny-ImageNet-C.tar", files)
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    clean = make_split([0, 1, 1], [0, 1, 2])
    results = [
        evaluate_corruption_archive(oracle(IDENTITY, IDS), place, clean=clean, batch_size=4, progress=False)
        for place in (path, tmp_path / "Tiny-ImageNet-C")
    ]
    for result in results:
        blur, snow, other = result.families
        assert (blur.name, blur.kind, blur.images) == ("glass_blur", "blur", (3,) * 5)
        assert (snow.name, snow.kind) == ("snow", "weather")
        assert snow.top1 == pytest.approx([1 / 3] * 4 + [1])
        assert (other.name, other.kind) == ("my_own", "other")
        assert result.mean_corruption_accuracy == pytest.approx((1 / 3 + 7 / 15 + 1 / 3) / 3)
        assert (result.images, result.clean_top1, result.notes) == (3, 2 / 3, ())
        assert result.examples["my_own"].shape == (3, 4, 6, 3)
    assert [result.corruptions for result in results] == ["of Tiny-ImageNet-C.tar", "of Tiny-ImageNet-C"]
    write_robustness(results[0], tmp_path / "out")


def test_a_limit_is_spread_over_the_classes(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    path = packed(tmp_path / "c.tar", archive_files({"fog": 0}, per_class=4))
    options = {"clean": make_split([0, 1, 2], [0, 1, 2]), "progress": False}
    for limit, right, images in ((3, 1, 3), (6, 2, 6), (100, 4, 12)):
        result = evaluate_corruption_archive(oracle(IDENTITY, IDS), path, limit=limit, **options)
        assert result.images == images
        assert result.families[0].top1 == pytest.approx([right / images] * 5)
    (two,) = evaluate_corruption_archive(oracle(IDENTITY, IDS), path, limit=2, **options).families
    assert two.images == (2,) * 5


def test_unknown_classes_and_damage_name_the_member(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    clean = make_split([0], [0])
    files = archive_files({"fog": 0})
    strange = packed(tmp_path / "strange.tar", {**files, "T/fog/1/dog/0.JPEG": b""})
    with pytest.raises(ResattnError, match=r"strange\.tar: 'T/fog/1/dog/0\.JPEG' is of a class .*: 'dog'"):
        evaluate_corruption_archive(oracle(IDENTITY, IDS), strange, clean=clean, progress=False)
    damaged = packed(tmp_path / "damaged.tar", {**files, "T/fog/1/ant/x.JPEG": b"no image"})
    with pytest.raises(ResattnError, match=r"damaged\.tar: 'T/fog/1/ant/x\.JPEG' is not an image"):
        evaluate_corruption_archive(oracle(IDENTITY, IDS), damaged, clean=clean, progress=False)


def test_images_of_another_size_than_the_clean_ones_are_refused(
    oracle: Make, make_split: Make, tmp_path: Path
) -> None:
    path = packed(tmp_path / "c.tar", archive_files({"fog": 0}))
    clean = make_split([0], [0])
    clean, blind = dataclasses.replace(clean, images=clean.images[:, :, :4]), oracle(IDENTITY, IDS)
    with pytest.raises(
        ResattnError, match=r"c\.tar: '.*' has 6x4 pixels, and the clean images of insects have 4x4"
    ):
        evaluate_corruption_archive(blind, path, clean=clean, progress=False)
    assert not blind.batch_sizes, "told before an image is computed"


def test_frost_with_all_classes_of_imagenet_is_known(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    ids = ("n00000001", "n00000002", "n00000003")
    files = {**archive_files({"fog": 0}, ids=ids), **archive_files({"frost": 0}, ids=(*ids, "n00000004"))}
    clean = make_split([0, 1, 2], [0, 1, 2], class_ids=ids)
    path = packed(tmp_path / "c.tar", files)
    result = evaluate_corruption_archive(oracle(IDENTITY, ids), path, clean=clean, progress=False)
    assert [family.images for family in result.families] == [(3,) * 5] * 2
    assert result.notes == (
        "5 images of frost are of classes that are not the network's, and were passed over",
    )


def test_archives_that_are_not_whole(oracle: Make, make_split: Make, tmp_path: Path) -> None:
    clean, files = make_split([0], [0]), archive_files({"fog": 0})
    partial = packed(tmp_path / "p.tar", {k: v for k, v in files.items() if "/4/" not in k})
    with pytest.raises(ResattnError, match=r"p\.tar holds no images of fog at severity 4"):
        evaluate_corruption_archive(oracle(IDENTITY, IDS), partial, clean=clean, progress=False)
    for name, content in files.items():
        if "/4/" not in name:
            place = tmp_path / "p" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    blind = oracle(IDENTITY, IDS)
    with pytest.raises(ResattnError, match="p holds no images of fog at severity 4"):
        evaluate_corruption_archive(blind, tmp_path / "p", clean=clean, progress=False)
    assert not blind.batch_sizes, "told before an image is computed"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResattnError, match="empty holds no corrupted images"):
        evaluate_corruption_archive(oracle(IDENTITY, IDS), tmp_path / "empty", clean=clean, progress=False)
    files.pop("Tiny-ImageNet-C/fog/2/bee/0.JPEG")
    uneven = packed(tmp_path / "u.tar", files)
    result = evaluate_corruption_archive(oracle(IDENTITY, IDS), uneven, clean=clean, progress=False)
    assert result.notes == ("families and severities have between 2 and 3 images each",)

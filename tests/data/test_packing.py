"""The writer: all of a data set or none of it."""

import errno
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from resattn.data import packing
from resattn.data.packed import available_splits, open_split, prepared_data_sets
from resattn.data.packing import PackedWriter, PreparedReport
from resattn.errors import ResattnError


def write(root: Path, *, value: int = 7, count: int = 3, name: str = "tiny") -> PreparedReport:
    with PackedWriter(
        name, class_ids=["a", "b"], class_names=["ant", "bee"], command="make it", root=root
    ) as writer:
        with writer.split("train", size=(4, 6), expected_images=count, boxes="with") as split:
            for number in range(count):
                image = np.full((4, 6, 3), value + number, dtype=np.uint8)
                box = (0, 1, 2, 3) if number else None
                split.add(image, label=number % 2, file_name=f"{number}.png", box=box)
        return writer.finish(source="here", source_sha256="5a", notes=["odd"], skipped=["x.png is bad"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    report = write(tmp_path)
    split = open_split("tiny", root=tmp_path)
    assert split.images.shape == (3, 4, 6, 3)
    assert split.images[:, 0, 0, 0].tolist() == [7, 8, 9]
    assert split.labels.tolist() == [0, 1, 0]
    assert split.boxes is not None
    assert np.isnan(split.boxes[0]).all()
    assert split.boxes[1:].tolist() == [[0, 1, 2, 3]] * 2
    assert (split.images.dtype, split.labels.dtype, split.boxes.dtype) == (np.uint8, np.int64, np.float32)
    assert split.file_names == ("0.png", "1.png", "2.png")
    assert (split.class_ids, split.class_names, split.source_sha256) == (("a", "b"), ("ant", "bee"), "5a")
    assert (report.images, report.boxes, report.classes) == ({"train": 3}, {"train": 2}, 2)
    assert (report.skipped, report.notes) == (("x.png is bad",), ("odd",))
    assert prepared_data_sets(root=tmp_path) == ("tiny",)
    assert available_splits("tiny", root=tmp_path) == ("train",)


def test_images_are_a_plain_npy_file_and_its_checksum_is_kept(tmp_path: Path) -> None:
    report = write(tmp_path)
    description = json.loads((report.path / "dataset.json").read_text())
    path = report.path / description["packed"] / "train" / "images.npy"
    assert np.load(path).shape == (3, 4, 6, 3)
    assert path.stat().st_size == 128 + 3 * 4 * 6 * 3
    assert description["splits"]["train"]["images_sha256"] == packing.file_sha256(path)


def test_fewer_images_than_expected_are_written_whole(tmp_path: Path) -> None:
    with PackedWriter("tiny", class_ids=["a"], class_names=["a"], command="", root=tmp_path) as writer:
        with writer.split("train", size=(2, 2), expected_images=100_000) as split:
            split.add(np.ones((2, 2, 3), dtype=np.uint8), label=0, file_name="only.png")
        writer.finish(source="", source_sha256="")
    assert open_split("tiny", root=tmp_path).images.sum() == 12


def test_an_older_set_is_replaced_and_its_open_maps_stay_readable(tmp_path: Path, samples) -> None:
    write(tmp_path, value=7)
    old = open_split("tiny", root=tmp_path)
    write(tmp_path, value=100)
    assert open_split("tiny", root=tmp_path).images[0, 0, 0, 0] == 100
    assert old.images[0, 0, 0, 0] == 7
    assert len([name for name in samples.below(tmp_path) if name.endswith("images.npy")]) == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("odd"), ResattnError("bad")])
def test_a_failure_keeps_the_older_set_and_nothing_else(
    tmp_path: Path, samples, failure: BaseException
) -> None:
    write(tmp_path)
    before = samples.below(tmp_path)
    with pytest.raises(type(failure)):
        fail(tmp_path, failure)
    assert samples.below(tmp_path) == before
    assert open_split("tiny", root=tmp_path).images[0, 0, 0, 0] == 7


def fail(root: Path, failure: BaseException) -> None:
    with PackedWriter("tiny", class_ids=["a"], class_names=["a"], command="", root=root) as writer:
        with writer.split("train", size=(2, 2), expected_images=1) as split:
            split.add(np.ones((2, 2, 3), dtype=np.uint8), label=0, file_name="only.png")
        with writer.split("val", size=(2, 2), expected_images=1) as split:
            split.add(np.ones((2, 2, 3), dtype=np.uint8), label=0, file_name="only.png")
            raise failure


def test_a_failure_of_the_last_step_keeps_the_older_set(
    tmp_path: Path, samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    before = samples.below(tmp_path)

    def full(path: Path, content: object) -> None:
        if path.name.endswith("dataset.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        path.write_text(json.dumps(content))

    monkeypatch.setattr(packing, "save_json", full)
    with pytest.raises(ResattnError, match=r"could not write .*dataset\.json: No space left on device"):
        write(tmp_path, value=100)
    assert samples.below(tmp_path) == before
    assert open_split("tiny", root=tmp_path).images[0, 0, 0, 0] == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("count", [3, 30_000])
def test_a_full_disk_is_one_error_that_names_the_mend(
    tmp_path: Path, samples, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(packing, "create", lambda _: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(ResattnError) as caught:
        write(tmp_path, count=count)
    assert caught.value.what.startswith(f"could not write {tmp_path}/tiny/.preparing-")
    assert caught.value.what.endswith("/train/images.npy: No space left on device")
    assert caught.value.mend.startswith("make room on the disk of ")
    assert caught.value.mend.endswith("or set RESATTN_HOME to a folder on a larger one, and run it again")
    assert samples.below(tmp_path) == []


def test_what_cannot_fit_is_refused_before_anything_is_written(
    tmp_path: Path, samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 150))
    with pytest.raises(ResattnError, match="the disk has 0 MB free, this takes 6 MB"):
        write(tmp_path, count=80_000)
    assert samples.below(tmp_path) == []


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResattnError) as caught:
        write(tmp_path / "file" / "data")
    assert caught.value.what == f"could not write {tmp_path}/file/data/tiny: Not a directory"
    assert caught.value.mend == "set RESATTN_HOME to a folder that you can write to"


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", "a b", ".hidden", "x" * 65])
def test_names_that_are_no_folder_of_the_data_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResattnError, match="cannot be the name of a data set"):
        write(tmp_path, name=name)


def test_an_image_of_another_size_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"a\.png: a uint8 image of shape \(3, 2, 3\), not uint8 \(2, 2, 3\)"),
        PackedWriter("tiny", class_ids=["a"], class_names=["a"], command="", root=tmp_path) as writer,
        writer.split("train", size=(2, 2), expected_images=1) as split,
    ):
        split.add(np.zeros((3, 2, 3), dtype=np.uint8), label=0, file_name="a.png")

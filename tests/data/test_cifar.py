"""CIFAR's archives, made small in the official formats, and pickles that are up to no good."""

import io
import os
import pickle
import pickletools
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resattn.data.cifar import prepare_cifar
from resattn.data.cifar_archive import read_cifar
from resattn.data.packed import open_split
from resattn.data.tar_headers import MAX_HEADER_BYTES
from resattn.errors import ResattnError

Files = dict[str, bytes]
TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def rows(seed: int, count: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def batch(seed: int, classes: int, count: int = 20) -> dict[str, Any]:
    labels = np.random.default_rng(seed + 100).integers(0, classes, count).tolist()
    names = [f"thing_{seed}_{number}.png" for number in range(count)]
    return {"data": rows(seed, count), "labels": labels, "filenames": names, "batch_label": f"batch {seed}"}


def as_python_2_wrote_it(fields: dict[str, Any]) -> bytes:
    """The fields as the official archives have them: protocol 2, byte strings as `str` of Python 2."""
    out = io.BytesIO()
    out.write(b"\x80\x02}(")
    for key, value in fields.items():
        out.write(_string(key.encode()))
        if isinstance(value, np.ndarray):
            out.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            out.write(b"(cnumpy\nndarray\nK\x00\x85" + _string(b"b") + b"tR")
            out.write(b"(K\x01J" + len(value).to_bytes(4, "little") + b"M\x00\x0c\x86")
            out.write(b"cnumpy\ndtype\n(" + _string(b"u1") + b"K\x00K\x01tR")
            out.write(b"(K\x03" + _string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
            out.write(b"\x89T" + value.nbytes.to_bytes(4, "little") + value.tobytes() + b"tb")
        elif isinstance(value, list):
            out.write(b"](")
            for item in value:
                out.write(
                    _string(item.encode()) if isinstance(item, str) else b"M" + item.to_bytes(2, "little")
                )
            out.write(b"e")
        elif isinstance(value, int):
            out.write(b"M" + value.to_bytes(2, "little"))
        else:
            out.write(_string(value.encode()))
    out.write(b"u.")
    return out.getvalue()


def _string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def as_python_3_writes_it(fields: dict[str, Any]) -> bytes:
    return pickle.dumps({key.encode(): value for key, value in fields.items()}, protocol=2)


def cifar10(dump: Callable[[dict[str, Any]], bytes]) -> Files:
    files = {f"data_batch_{number}": dump(batch(number, 10)) for number in range(1, 6)}
    files["test_batch"] = dump(batch(6, 10))
    files["batches.meta"] = dump({"label_names": TEN, "num_vis": 3072})
    return {f"cifar-10-batches-py/{name}": content for name, content in files.items()} | {
        "cifar-10-batches-py/readme.html": b"<p>"
    }


def write_tar(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        folder = tarfile.TarInfo("cifar-10-batches-py")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def files() -> Files:
    return cifar10(as_python_2_wrote_it)


@pytest.fixture
def refused(tmp_path: Path, files: Files, samples) -> Callable[[], ResattnError]:
    """The error of a prepare of the `files` as they are by then, which has to leave nothing behind."""

    def attempt() -> ResattnError:
        with pytest.raises(ResattnError) as caught:
            prepare_cifar("cifar10", archive=write_tar(tmp_path / "c.tar.gz", files), root=tmp_path / "data")
        assert samples.below(tmp_path / "data") == []
        assert caught.value.mend
        return caught.value

    return attempt


def check_ten(root: Path) -> None:
    train, val = (open_split("cifar10", split, root=root) for split in ("train", "val"))
    assert train.class_ids == tuple(TEN)
    expected = np.concatenate([rows(number) for number in range(1, 6)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(train.images, expected.transpose(0, 2, 3, 1))
    assert train.labels.tolist() == [label for number in range(1, 6) for label in batch(number, 10)["labels"]]
    assert np.array_equal(val.images, rows(6).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert val.labels.tolist() == batch(6, 10)["labels"]
    assert train.boxes is None


@pytest.mark.parametrize("dump", [as_python_2_wrote_it, as_python_3_writes_it])
def test_cifar10_from_the_python_archive(tmp_path: Path, dump: Callable[[dict[str, Any]], bytes]) -> None:
    archive = write_tar(tmp_path / "c.tar.gz", cifar10(dump))
    report = prepare_cifar("cifar10", archive=archive, root=tmp_path / "data")
    assert report.images == {"train": 100, "val": 20}
    assert report.notes[0] == "train: 100 images, where the official archive has 50,000"
    check_ten(tmp_path / "data")
    names = open_split("cifar10", root=tmp_path / "data").file_names
    assert (names[0], names[-1]) == ("thing_1_0.png", "thing_5_19.png")


def test_the_stand_in_pickle_is_one_that_numpy_reads_too() -> None:
    fields = batch(1, 10)
    content = as_python_2_wrote_it(fields)
    again = pickle.loads(content, encoding="latin1")
    assert np.array_equal(again["data"], fields["data"])
    assert again["labels"] == fields["labels"]
    pickletools.dis(content, out=io.StringIO())


def binary(number: int, classes: int, labels_before: bytes = b"") -> bytes:
    labels = batch(number, classes)["labels"]
    return b"".join(
        labels_before + bytes([label]) + row.tobytes()
        for label, row in zip(labels, rows(number), strict=True)
    )


def test_cifar10_from_the_binary_archive(tmp_path: Path) -> None:
    files = {f"cifar-10-batches-bin/data_batch_{number}.bin": binary(number, 10) for number in range(1, 6)}
    files["cifar-10-batches-bin/test_batch.bin"] = binary(6, 10)
    files["cifar-10-batches-bin/batches.meta.txt"] = "\n".join([*TEN, ""]).encode()
    prepare_cifar("cifar10", archive=write_tar(tmp_path / "c.tar.gz", files), root=tmp_path / "data")
    check_ten(tmp_path / "data")


@pytest.mark.parametrize("version", ["python", "binary"])
def test_cifar100_has_fine_labels_in_sorted_order(tmp_path: Path, version: str) -> None:
    names = ["worm", "apple", "aquarium_fish"]
    files: Files = {}
    for name, number in (("train", 1), ("test", 2)):
        fields = batch(number, 3)
        fields["fine_labels"], fields["coarse_labels"] = fields.pop("labels"), [0] * 20
        files[f"c/{name}"] = as_python_2_wrote_it(fields)
        files[f"c/{name}.bin"] = binary(number, 3, labels_before=b"\x07")
    files["c/meta"] = as_python_2_wrote_it({"fine_label_names": names, "coarse_label_names": ["thing"]})
    files["c/fine_label_names.txt"] = "\n".join(names).encode()
    kept = {name: content for name, content in files.items() if ("." in name) == (version == "binary")}
    report = prepare_cifar("cifar100", archive=write_tar(tmp_path / "c.tar.gz", kept), root=tmp_path / "data")
    assert report.images == {"train": 20, "val": 20}
    train = open_split("cifar100", root=tmp_path / "data")
    assert (train.class_ids, train.class_names) == (
        ("apple", "aquarium_fish", "worm"),
        ("apple", "aquarium fish", "worm"),
    )
    assert [train.class_ids[label] for label in train.labels] == [names[k] for k in batch(1, 3)["labels"]]


class Evil:
    """Unpickles to a call of os.system."""

    def __reduce__(self) -> Any:
        return os.system, ("touch evil",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_would_run_something_is_refused_and_not_run(
    tmp_path: Path,
    files: Files,
    refused: Callable[[], ResattnError],
    monkeypatch: pytest.MonkeyPatch,
    protocol: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    files["cifar-10-batches-py/data_batch_2"] = pickle.dumps({"data": Evil()}, protocol=protocol)
    assert refused().what == (
        f"{tmp_path}/c.tar.gz: data_batch_2 is a pickle that asks for {os.system.__module__}.system; "
        "no CIFAR archive does, it was not run"
    )
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c_codecs\nencode\n(Va\nVrot13\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"P1\n.",
        b"(lp0\n.",
        b"",
    ],
)
def test_other_pickles_that_are_no_batch(
    files: Files, refused: Callable[[], ResattnError], content: bytes
) -> None:
    files["cifar-10-batches-py/test_batch"] = content
    assert ": test_batch " in refused().what


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"data": rows(1, 19)}, "has 19 images, 20 labels and 20 file names"),
        ({"labels": [10] * 20}, "has labels that are not 0 to 9"),
        ({"labels": ["1"] * 20}, "has labels that are not 0 to 9"),
        ({"labels": "none"}, "has no list 'labels'"),
        ({"filenames": [1] * 20}, "has a name that is no text"),
        ({"data": "none"}, "has no array 'data'"),
        ({"data": rows(1)[:, :3000]}, "has no array of N x 3072 bytes under 'data'"),
    ],
)
def test_batches_that_do_not_fit_together(
    files: Files, refused: Callable[[], ResattnError], tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    files["cifar-10-batches-py/data_batch_3"] = as_python_3_writes_it(batch(1, 10) | change)
    assert refused().what == f"{tmp_path}/c.tar.gz: data_batch_3 {problem}"


def test_a_missing_batch_and_the_wrong_archive(
    files: Files, refused: Callable[[], ResattnError], tmp_path: Path
) -> None:
    del files["cifar-10-batches-py/data_batch_4"]
    assert refused().what == f"{tmp_path}/c.tar.gz is not the cifar10 archive: it holds no data_batch_4"
    files.clear()
    assert refused().what.startswith(
        f"{tmp_path}/c.tar.gz is not the cifar10 archive: it holds no data_batch_1, "
    )


@pytest.mark.parametrize("part", [0, 30, 0.5, 0.999])
def test_an_archive_that_is_cut_short(tmp_path: Path, files: Files, samples, part: float) -> None:
    path = write_tar(tmp_path / "c.tar.gz", files)
    content = path.read_bytes()
    path.write_bytes(content[: int(part if part > 1 else part * len(content))])
    with pytest.raises(ResattnError) as caught:
        prepare_cifar("cifar10", archive=path, root=tmp_path / "data")
    assert caught.value.what.startswith(f"{path} is not a whole tar.gz archive (")
    assert caught.value.mend == "get the archive again with `resattn prepare cifar10 --download`"
    assert samples.below(tmp_path / "data") == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "cifar-10-batches-py/../../evil"])
def test_a_member_that_leads_out_of_the_archive(
    files: Files, refused: Callable[[], ResattnError], tmp_path: Path, name: str
) -> None:
    files[name] = b"x"
    assert refused().what == f"{tmp_path}/c.tar.gz: the member {name!r} leads out of the archive"


def test_a_batch_that_is_there_twice(
    files: Files, refused: Callable[[], ResattnError], tmp_path: Path
) -> None:
    files["other/data_batch_1"] = files["cifar-10-batches-py/data_batch_1"]
    assert refused().what == f"{tmp_path}/c.tar.gz: data_batch_1 is in the archive more than once"


def test_members_that_no_cifar_archive_can_hold(files: Files, refused: Callable[[], ResattnError]) -> None:
    files["cifar-10-batches-py/x.bin"] = bytes(64 * 2**20 + 1)
    assert "'cifar-10-batches-py/x.bin' is more than a CIFAR archive can hold" in refused().what
    del files["cifar-10-batches-py/x.bin"]
    files["x" * (MAX_HEADER_BYTES + 1)] = b""
    assert "a header that no such archive needs" in refused().what


def test_only_what_is_part_of_the_data_set_is_kept(tmp_path: Path, files: Files) -> None:
    others = {f"more/{number}.bin": bytes(60 * 2**20) for number in range(3)}
    path = write_tar(tmp_path / "c.tar.gz", files | others)
    tracemalloc.start()
    try:
        read_cifar(path, "cifar10", mend="")
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()


def test_binary_records_that_are_not_whole(tmp_path: Path) -> None:
    files = {f"data_batch_{number}.bin": binary(number, 10)[:-1] for number in range(1, 6)}
    files |= {"test_batch.bin": binary(6, 10), "batches.meta.txt": "\n".join(TEN).encode()}
    with pytest.raises(
        ResattnError, match=r"data_batch_1\.bin has 61,459 bytes, which are not whole records of 3,073"
    ):
        prepare_cifar("cifar10", archive=write_tar(tmp_path / "c.tar.gz", files), root=tmp_path / "data")

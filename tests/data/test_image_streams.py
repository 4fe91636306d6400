"""Images out of folders, archives and tables: all of them, in order, and from where one left off."""

import io
import lzma
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from resattn.data.image_streams import EncodedImage, iter_image_files, iter_images
from resattn.data.tar_headers import MAX_HEADER_BYTES
from resattn.errors import ResattnError


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    kind = {".tar": "w", ".gz": "w:gz", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, kind) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return path


def contents(items: list[Path | EncodedImage]) -> list[bytes | None]:
    return [item.read_bytes() if isinstance(item, Path) else item.content for item in items]


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """A folder with two images, two archives of three and a table of seven in row groups of three."""
    folder = tmp_path / "mixture"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.png").write_bytes(png(0))
    write_tar(
        folder / "c.tar",
        {"z/1.png": png(1), "notes.txt": b"no", ".hidden.png": b"no", "2.PNG": png(2), "0.png": png(3)},
    )
    records = [{"bytes": png(number), "path": f"{number}.png"} for number in range(4, 11)]
    parquet.write_table(
        pa.table({"label": range(7), "image": records}), folder / "d.parquet", row_group_size=3
    )
    (folder / "deep" / "a.png").write_bytes(png(11))
    write_tar(folder / "deep" / "e.tar.gz", {f"{number}.png": png(number) for number in (12, 13, 14)})
    (folder / "readings.csv.gz").write_bytes(b"no archive of images")
    return folder


def test_everything_comes_once_in_order(mixture: Path) -> None:
    items = list(iter_images([mixture]))
    assert contents(items) == [png(number) for number in range(15)]
    names = [item.name if isinstance(item, EncodedImage) else str(item) for item in items]
    assert names[:4] == [
        f"{mixture}/{name}" for name in ("b.png", "c.tar/z/1.png", "c.tar/2.PNG", "c.tar/0.png")
    ]
    assert names[4] == f"{mixture}/d.parquet#0"
    assert names[-1] == f"{mixture}/deep/e.tar.gz/14.png"
    assert contents(list(iter_images(mixture / "deep" / "e.tar.gz"))) == [png(12), png(13), png(14)]


@pytest.mark.parametrize("skip", [1, 2, 5, 7, 9, 11, 14, 15, 99])
def test_the_rest_comes_where_some_are_skipped(mixture: Path, skip: int) -> None:
    assert list(iter_images([mixture], skip=skip)) == list(iter_images([mixture]))[skip:]


def test_headers_of_an_archive_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "many.tar", {f"{number}.png": b"x" for number in range(300)})
    kept: list[int] = []
    following = tarfile.TarFile.next

    def next_member(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        kept.append(len(self.members))
        return following(self)

    monkeypatch.setattr(tarfile.TarFile, "next", next_member)
    assert len(list(iter_images(path))) == 300
    assert max(kept) <= 1


def test_columns_of_plain_bytes_are_taken_and_what_is_no_image_has_no_content(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"jpg": [png(1), None]}), tmp_path / "plain.parquet")
    assert contents(list(iter_images(tmp_path))) == [png(1), None]
    names = {"image": ["1.png"], "bytes": [{"path": "1.png"}], "png": [{"bytes": png(2), "path": None}]}
    parquet.write_table(pa.table(names), tmp_path / "plain.parquet")
    assert contents(list(iter_images(tmp_path))) == [png(2)]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match="nowhere does not exist"):
        iter_images(tmp_path / "nowhere")
    parquet.write_table(pa.table({"text": ["no"]}), tmp_path / "text.parquet")
    with pytest.raises(ResattnError, match=r"text\.parquet has no column of images, but text") as caught:
        list(iter_images(tmp_path / "text.parquet"))
    assert "image, bytes" in caught.value.mend
    whole = write_tar(tmp_path / "whole.tar", {f"{number}.png": png(number) for number in range(40)})
    packed = write_tar(tmp_path / "packed.tar.gz", {f"{number}.png": png(number) for number in range(40)})
    for name, content in (
        ("header.tar", whole.read_bytes()[: 1024 * 20 + 100]),
        ("between.tar", whole.read_bytes()[: 1024 * 20]),
        ("content.tar", whole.read_bytes()[: 1024 * 20 + 520]),
        ("packed.tar.gz", packed.read_bytes()[: packed.stat().st_size // 2]),
        ("foreign.tar", b"no archive" * 99),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ResattnError, match=rf"{name} cannot be read to its end"):
            list(iter_images(tmp_path / name))
    (tmp_path / "foreign.parquet").write_bytes(b"no table" * 99)
    with pytest.raises(ResattnError, match=r"foreign\.parquet cannot be read to its end"):
        list(iter_images(tmp_path / "foreign.parquet"))


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_compressed_archive_that_is_damaged_in_the_middle_is_named(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    path = write_tar(tmp_path / "whole.tar", {f"{number}.png": rng.bytes(9_999) for number in range(40)})
    content = path.read_bytes()
    first, second = content[:200_000], content[200_000:]
    if suffix == ".gz":
        stream = zlib.compressobj(wbits=31)
        # Seven is a kind of block that there is not.
        packed = stream.compress(first) + stream.flush(zlib.Z_FULL_FLUSH) + b"\x07" * 99
    else:
        packed = lzma.compress(first)[:-2_000] + bytes(99) + lzma.compress(second)
    damaged = tmp_path / f"damaged.tar{suffix}"
    damaged.write_bytes(packed)
    images = iter_images(damaged)
    assert next(images).name.endswith("0.png")
    with pytest.raises(ResattnError, match=rf"damaged\.tar{suffix} cannot be read to its end"):
        list(images)


def test_headers_of_many_megabytes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.tar.gz"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(path, "w:gz", format=kind) as archive:
            archive.addfile(tarfile.TarInfo("folder/" + "x" * 300 + ".png"))
            archive.addfile(tarfile.TarInfo("x" * (MAX_HEADER_BYTES + 1)))
        found = iter_images(path)
        assert next(found).name.endswith("xxx.png")
        with pytest.raises(ResattnError, match="a header that no such archive needs"):
            next(found)


def test_image_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a/2.JPG", "a/1.webp", "c/deep/x.bmp", "notes.txt", ".hidden.png", ".git/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in iter_image_files(tmp_path)]
    assert found == ["b.png", "a/1.webp", "a/2.JPG", "c/deep/x.bmp"]
    chosen = [tmp_path / "notes.txt", str(tmp_path / "a")]
    assert [path.name for path in iter_image_files(chosen)] == ["notes.txt", "1.webp", "2.JPG"]
    with pytest.raises(ResattnError, match="nowhere does not exist"):
        iter_image_files([tmp_path, tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResattnError, match="empty holds no image files"):
        list(iter_image_files(tmp_path / "empty"))
    with pytest.raises(ResattnError, match=r"cannot be read \(File name too long\)|does not exist"):
        iter_image_files("x" * 300)
    (tmp_path / "photos.tar").touch()
    with pytest.raises(ResattnError, match=r"photos\.tar is no image, but may hold some"):
        iter_image_files(tmp_path / "photos.tar")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a failing scandir, because the tests may run as one who may read everything."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    real = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ResattnError, match=r"closed cannot be read \(Permission denied\)"):
        list(iter_image_files(tmp_path))

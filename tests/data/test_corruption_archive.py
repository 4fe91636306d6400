"""Reading Tiny-ImageNet-C: as handed out, damaged, and hostile."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resattn.data.corruption_archive import Place, open_corruption_archive
from resattn.data.tar_headers import MAX_HEADER_BYTES
from resattn.errors import ResattnError


def encoded(value: int = 9, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def unpacked(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


BOTH = pytest.mark.parametrize("write", [packed, unpacked])
GOOD = {
    "Tiny-ImageNet-C/fog/1/n01/a.JPEG": encoded(1),
    "Tiny-ImageNet-C/fog/1/n01/b.JPEG": encoded(2),
    "Tiny-ImageNet-C/fog/1/n02/a.JPEG": encoded(3),
    "Tiny-ImageNet-C/fog/2/n01/a.JPEG": encoded(4),
}


@BOTH
def test_every_image_with_its_place_in_order(write, tmp_path: Path) -> None:
    dross = {"Tiny-ImageNet-C/README": b"hello", "Tiny-ImageNet-C/fog/1/n01/._a.JPEG": b"a file manager's"}
    archive = open_corruption_archive(write(tmp_path / "images", {**GOOD, **dross}))
    found = list(archive.images(lambda _: True))
    assert [image.place.member for image in found] == list(GOOD)
    assert found[2].place == Place("fog", 1, "n02", "Tiny-ImageNet-C/fog/1/n02/a.JPEG")
    assert [int(image.pixels[0, 0, 0]) for image in found] == [1, 2, 3, 4]
    assert found[0].pixels.shape == (8, 8, 3) and found[0].pixels.dtype == np.uint8
    assert all(image.position <= archive.total for image in found)
    assert sorted(image.position for image in found) == [image.position for image in found]
    assert len(list(archive.images(lambda place: place.class_id == "n02"))) == 1


@BOTH
def test_the_folder_above_is_optional(write, tmp_path: Path) -> None:
    for name in ("fog/5/n01/a.png", "some/where/else/fog/5/n01/a.JPG"):
        path = write(tmp_path / name.replace("/", "-"), {name: encoded()})
        (image,) = open_corruption_archive(path).images(lambda _: True)
        assert image.place[:3] == ("fog", 5, "n01")


@BOTH
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"no image", "is not an image"),
        (encoded()[:-30], "damaged or cut short"),
        (encoded(side=9), "has 9 x 9 pixels, and the first image 8 x 8"),
        (encoded(side=513), "has 513 x 513 pixels, over the limit of 512 a side"),
        (bytes(4 * 2**20 + 1), "has 4,194,305 bytes, over the limit of 4,194,304"),
    ],
)
def test_bad_images_are_named(write, content: bytes, complaint: str, tmp_path: Path) -> None:
    name = "Tiny-ImageNet-C/fog/3/n01/bad.JPEG"
    archive = open_corruption_archive(write(tmp_path / "images", {**GOOD, name: content}))
    with pytest.raises(ResattnError, match=rf"images: '{name}' .*{complaint}") as caught:
        list(archive.images(lambda _: True))
    assert "Tiny-ImageNet-C.tar" in caught.value.mend
    assert len(list(archive.images(lambda place: place.severity != 3))) == 4, "what is not wanted is not read"


@BOTH
@pytest.mark.parametrize("name", ["fog/n01/a.JPEG", "fog/6/n01/a.JPEG", "a.JPEG", "fog/1/n01/images/a.JPEG"])
def test_images_have_to_lie_where_their_label_is(write, name: str, tmp_path: Path) -> None:
    archive = open_corruption_archive(write(tmp_path / "images", {name: encoded()}))
    with pytest.raises(ResattnError, match=f"'{name}' does not lie in CORRUPTION/SEVERITY/CLASS_ID"):
        list(archive.images(lambda _: True))


@pytest.mark.parametrize("name", ["../fog/1/n01/a.JPEG", "/etc/fog/1/n01/a.JPEG", "x/../../fog/1/n01/a.JPEG"])
def test_members_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    archive = open_corruption_archive(packed(tmp_path / "images.tar", {name: encoded()}))
    with pytest.raises(ResattnError, match="leads out of the archive"):
        list(archive.images(lambda _: True))
    assert [path.name for path in tmp_path.iterdir()] == ["images.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        member = tarfile.TarInfo("fog/1/n01/a.JPEG")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ResattnError, match="'fog/1/n01/a.JPEG' is a link or a device"):
        list(open_corruption_archive(tmp_path / "links.tar").images(lambda _: True))


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7, 0.9])
def test_a_tar_file_that_is_cut_short_is_told(kept: float, tmp_path: Path) -> None:
    files = {f"fog/1/n01/{number}.JPEG": encoded() for number in range(12)}
    path = packed(tmp_path / "cut.tar", files)
    whole = path.read_bytes()[: len(files) * 1024]
    for end in (int(kept * len(whole)), int(kept * len(whole)) // 1024 * 1024):
        path.write_bytes(whole[:end])
        with pytest.raises(ResattnError, match=r"cut\.tar(: '.*' is | is damaged or )cut short"):
            list(open_corruption_archive(path).images(lambda _: True))


@pytest.mark.parametrize("left", [1, 300, 700, 1500])
def test_an_image_that_is_cut_short_is_named(left: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert len(file.getvalue()) > 1500
    path = packed(tmp_path / "cut.tar", {"fog/1/n01/0.JPEG": file.getvalue()})
    path.write_bytes(path.read_bytes()[: 512 + left])
    with pytest.raises(ResattnError, match=r"cut\.tar: 'fog/1/n01/0\.JPEG' is cut short"):
        list(open_corruption_archive(path).images(lambda _: True))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "fog" / "1"
    closed.mkdir(parents=True)
    closed.chmod(0)
    with pytest.raises(ResattnError, match="cannot be read"):
        open_corruption_archive(tmp_path)
    closed.chmod(0o700)


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    path = packed(tmp_path / "bad.tar", {f"fog/1/n01/{number}.JPEG": encoded() for number in range(3)})
    content = bytearray(path.read_bytes())
    content[2048:2100] = b"x" * 52
    path.write_bytes(content)
    with pytest.raises(ResattnError, match=r"bad\.tar is damaged or cut short after 'fog/1/n01/1\.JPEG'"):
        list(open_corruption_archive(path).images(lambda _: True))


def test_a_name_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("x" * (MAX_HEADER_BYTES + 1)))
    with pytest.raises(ResattnError, match="a header that no such archive needs"):
        list(open_corruption_archive(path).images(lambda _: True))


def test_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match="there is no such file or folder"):
        open_corruption_archive(tmp_path / "absent.tar")
    (tmp_path / "text.tar").write_text("hello")
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    for name in ("text.tar", "small.tar.gz"):
        with pytest.raises(ResattnError, match=f"{name} is not an uncompressed tar file"):
            open_corruption_archive(tmp_path / name)


def test_memory_does_not_grow_with_the_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    plain = tarfile.TarFile.next
    monkeypatch.setattr(tarfile.TarFile, "next", lambda self: kept.append(len(self.members)) or plain(self))
    path = packed(tmp_path / "many.tar", {f"fog/1/n01/{number}.JPEG": encoded() for number in range(50)})
    assert len(list(open_corruption_archive(path).images(lambda _: True))) == 50
    assert max(kept) <= 1

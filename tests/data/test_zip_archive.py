"""Zip archives that lie about themselves."""

import struct
import zipfile
from pathlib import Path

import pytest

from resattn.data import zip_archive
from resattn.data.zip_archive import BadMemberError, ZipArchive
from resattn.errors import ResattnError


def deflated(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return path


def patch_sizes(path: Path, declared: int) -> None:
    """Overwrite the uncompressed size of the only member, in its local and its central header."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + offset, declared)
    path.write_bytes(content)


def test_a_member_that_declares_an_absurd_size_is_not_read(tmp_path: Path) -> None:
    path = deflated(tmp_path / "bomb.zip", bytes(zip_archive.MAX_MEMBER_BYTES + 1))
    with (
        ZipArchive(path, mend="") as archive,
        pytest.raises(BadMemberError, match=r"^declares 67,108,865 bytes, over the limit of 67,108,864$"),
    ):
        archive.read("a.txt")


@pytest.mark.parametrize("declared", [0, 10, 999])
def test_a_member_that_is_larger_than_it_declares_is_not_unpacked(tmp_path: Path, declared: int) -> None:
    path = deflated(tmp_path / "bomb.zip", bytes(1_000))
    patch_sizes(path, declared)
    with ZipArchive(path, mend="") as archive, pytest.raises(BadMemberError, match="^is damaged"):
        archive.read("a.txt")


def test_a_member_that_is_smaller_than_it_declares(tmp_path: Path) -> None:
    path = deflated(tmp_path / "short.zip", b"hello")
    patch_sizes(path, 500)
    with ZipArchive(path, mend="") as archive, pytest.raises(BadMemberError, match="^is (damaged|cut short)"):
        archive.read("a.txt")


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = deflated(tmp_path / "secret.zip", b"hello")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(ResattnError, match=r"secret\.zip: the member 'a\.txt' is encrypted"):
        ZipArchive(path, mend="")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a.JPEG")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ResattnError, match=r"link\.zip: the member 'a\.JPEG' is a link"):
        ZipArchive(path, mend="")


def test_a_name_with_a_zero_byte(tmp_path: Path) -> None:
    path = deflated(tmp_path / "zero.zip", b"hello")
    path.write_bytes(path.read_bytes().replace(b"a.txt", b"a\0txt"))
    with pytest.raises(ResattnError, match="leads out of the archive"):
        ZipArchive(path, mend="")


def test_empty_members_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "plain.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("folder")
        archive.writestr("folder/empty.txt", b"")
        archive.writestr("folder/.hidden", b"x")
        archive.writestr("__MACOSX/folder/x", b"x")
    with ZipArchive(path, mend="") as opened:
        assert list(opened.members) == ["folder/empty.txt"]
        assert opened.read("folder/empty.txt") == b""

"""Reading Tiny-ImageNet-C, the corrupted images of Hendrycks & Dietterich 2019 (arXiv 1903.12261), as it is handed out.

The archive is a tar file, or the folder it unpacks to, of CORRUPTION/SEVERITY/CLASS_ID/name.JPEG, at any depth; files
that are no images are passed over. Members are read one after the other into memory and never extracted. The tar file
has to be uncompressed, as the official one is: then no member can be larger than the file.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resattn.data.decoding import BadImageError, decode_rgb, read_file, to_array
from resattn.data.tar_headers import BoundedHeader
from resattn.errors import ResattnError

OFFICIAL = "https://zenodo.org/records/2536630"
MAX_MEMBER_BYTES = 4 * 2**20
MAX_SIDE = 512
_SUFFIXES = (".jpeg", ".jpg", ".png")
_SEVERITIES = {str(severity): severity for severity in range(1, 6)}
_MEND = f"give Tiny-ImageNet-C.tar (from {OFFICIAL}), or the folder it unpacks to"
_MIB = 2**20


class Place(NamedTuple):
    """Where in the archive an image lies; `severity` is 1 to 5, `member` its whole name."""

    family: str
    severity: int
    class_id: str
    member: str


class CorruptedImage(NamedTuple):
    """An image of the archive: uint8 H x W x 3, and how much of the archive was read when it had been."""

    place: Place
    pixels: NDArray[np.uint8]
    position: int


class _Member(NamedTuple):
    name: str
    read: Callable[[], bytes]
    position: int


@dataclass(frozen=True)
class CorruptionArchive:
    """An archive that `images` reads; `total` is its length in `unit`s."""

    path: Path
    total: int
    unit: str

    def images(self, wanted: Callable[[Place], bool]) -> Iterator[CorruptedImage]:
        """The images for which `wanted` says so, in the order of the archive, one in memory at a time.

        Raises ResattnError, naming the member, for one that is no whole image, is not of the size of the first, over
        512 pixels a side or 4 MiB, or does not lie as it should; and for a tar file that is cut short.
        """
        first: tuple[int, ...] | None = None
        for member in _files(self.path) if self.path.is_dir() else _tar_members(self.path):
            place = self._place(member.name)
            if place is None or not wanted(place):
                continue
            try:
                pixels = to_array(decode_rgb(member.read(), orientation="as stored"))
                first = first or pixels.shape
                _check_size(pixels.shape, first)
            except BadImageError as error:
                raise ResattnError(f"{self.path}: {member.name!r} {error}", _MEND) from error
            yield CorruptedImage(place, pixels, member.position)

    def cells(self) -> set[tuple[str, int]] | None:
        """Families and severities, by the names of the files; None for a tar file, which is not read for them."""
        if not self.path.is_dir():
            return None
        places = (self._place(member.name) for member in _files(self.path))
        return {place[:2] for place in places if place is not None}

    def _place(self, name: str) -> Place | None:
        parts = PurePosixPath(name).parts
        if ".." in parts or name.startswith("/"):
            raise ResattnError(f"{self.path}: the member {name!r} leads out of the archive", _MEND)
        if not name.lower().endswith(_SUFFIXES) or any(part.startswith(".") for part in parts):
            return None
        if len(parts) < 4 or parts[-3] not in _SEVERITIES:
            raise ResattnError(
                f"{self.path}: {name!r} does not lie in CORRUPTION/SEVERITY/CLASS_ID, with a severity of 1 to 5",
                _MEND,
            )
        return Place(parts[-4], _SEVERITIES[parts[-3]], parts[-2], name)


def open_corruption_archive(path: Path) -> CorruptionArchive:
    """Look at a tar file or folder; raises ResattnError where there is none, or the file is no plain tar file."""
    try:
        if path.is_dir():
            return CorruptionArchive(path, sum(1 for _ in _files(path)), "files")
        if not path.is_file():
            raise ResattnError(f"{path}: there is no such file or folder", _MEND)
        with tarfile.open(path, "r:", tarinfo=BoundedHeader):
            return CorruptionArchive(path, path.stat().st_size // _MIB, "MiB")
    except (tarfile.TarError, EOFError) as error:
        raise ResattnError(f"{path} is not an uncompressed tar file ({error})", _MEND) from error
    except OSError as error:
        reason = error.strerror or error
        raise ResattnError(f"{path} cannot be read ({reason})", "allow yourself to read it") from error


def _check_size(shape: tuple[int, ...], first: tuple[int, ...]) -> None:
    height, width, _ = shape
    if max(height, width) > MAX_SIDE:
        raise BadImageError(f"has {width} x {height} pixels, over the limit of {MAX_SIDE} a side")
    if shape != first:
        raise BadImageError(f"has {width} x {height} pixels, and the first image {first[1]} x {first[0]}")


def _files(root: Path) -> Iterator[_Member]:
    """All files below a folder, in sorted order, one folder's names in memory at a time.

    Raises OSError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    position = 0
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            position += 1
            yield _Member(path.relative_to(root).as_posix(), partial(_file_content, path), position)


def _file_content(path: Path) -> bytes:
    data = read_file(path)
    _check_bytes(len(data))
    return data


def _check_bytes(size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise BadImageError(f"has {size:,} bytes, over the limit of {MAX_MEMBER_BYTES:,}")


def _tar_members(path: Path) -> Iterator[_Member]:
    """The files of a tar archive, in its order; links and devices are refused."""
    last = "its beginning"
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedHeader) as archive:
            while (member := archive.next()) is not None:
                # tarfile remembers every member for look-ups: 750,000 of them would fill the memory.
                archive.members.clear()  # type: ignore[attr-defined]
                last = repr(member.name)
                if member.isdir():
                    continue
                if not member.isreg():
                    raise ResattnError(f"{path}: the member {last} is a link or a device", _MEND)
                end = member.offset_data + member.size
                yield _Member(member.name, partial(_tar_content, archive, member), end // _MIB)
            file.seek(archive.offset)
            # tarfile takes a damaged header for the end; the real end is a block of zeros.
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("no end")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ResattnError(f"{path} is damaged or cut short after {last} ({error})", _MEND) from error


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    _check_bytes(member.size)
    try:
        content = archive.extractfile(member)
        data = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadImageError(f"is cut short ({error})") from error
    if len(data) != member.size:
        raise BadImageError("is cut short")
    return data

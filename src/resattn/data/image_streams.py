"""Images out of files, folders, tar archives and Parquet tables, one after the other, however many there are."""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from resattn.data.decoding import MAX_FILE_BYTES, image_suffixes
from resattn.data.tar_headers import BoundedHeader
from resattn.errors import ResattnError

if TYPE_CHECKING:
    import pyarrow

TABLE_COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "webp")
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image file that lies in another file, and a name that says where: `ARCHIVE/MEMBER`, `TABLE#ROW`.

    `content` is None where there is nothing to decode, or too much.
    """

    name: str
    content: bytes | None


def encoded_bytes(item: object) -> int:
    """How many bytes of an image file something holds in memory."""
    return len(item.content or b"") if isinstance(item, EncodedImage) else 0


def iter_image_files(paths: str | Path | Iterable[str | Path]) -> Iterator[Path]:
    """The image files in folders and below, sorted within each; files named themselves come as they are.

    In folders, files with a suffix of a format Pillow reads are taken; hidden ones are not. Symbolic links to
    folders are not followed. Raises ResattnError at once for a path that does not exist, and when it is
    reached for a folder without images or one that cannot be read.
    """
    chosen = _existing(paths)
    for path in chosen:
        if path.is_file() and (_is_archive(path) or path.suffix.lower() == ".parquet"):
            raise ResattnError(
                f"{path} is no image, but may hold some", "resattn predict --out FILE reads it"
            )
    return (
        file for path in chosen for file in (_below(path, image_suffixes()) if path.is_dir() else (path,))
    )


def iter_images(paths: str | Path | Iterable[str | Path], *, skip: int = 0) -> Iterator[Path | EncodedImage]:
    """The images in folders, tar archives and Parquet tables, in an order that is the same every time.

    Folders hold images, archives and tables; see `iter_image_files`. An archive is a .tar, or a .tar.gz, .tgz, .tar.bz2
    or .tar.xz, whose members are taken as the files of a folder are, in the archive's order. A table has a column
    `image` (or `bytes`, `jpg`, `jpeg`, `png`, `webp`) of bytes, or of records with a field `bytes`, as Hugging Face
    writes them. Few images are in memory at a time. The first `skip` images are left out, and not read where that is
    possible.

    Raises ResattnError at once for a path that does not exist, and when it is reached for a folder without images, a
    folder, archive or table that cannot be read, and a table while pyarrow is not installed.
    """
    return _images(_existing(paths), skip)


def _images(paths: list[Path], skip: int) -> Iterator[Path | EncodedImage]:
    kinds = image_suffixes() | {".tar", ".tgz", ".gz", ".bz2", ".xz", ".parquet"}
    files = (file for path in paths for file in (_below(path, kinds) if path.is_dir() else (path,)))
    for file in files:
        for item in _items(file, skip):
            if skip:
                skip -= 1
            elif item is not None:
                yield item


def _items(file: Path, skip: int) -> Iterator[Path | EncodedImage | None]:
    """The images in one file, or the file itself; None in place of the first `skip`."""
    if _is_archive(file):
        yield from _archive(file, skip)
    elif file.suffix.lower() == ".parquet":
        yield from _table(file, skip)
    else:
        yield None if skip else file


def _existing(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    chosen = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    for path in chosen:
        try:
            there = path.exists()
        except OSError as error:  # no permission, a name that is too long
            error.filename = path
            _cannot_read(error)
        if not there:
            raise ResattnError(f"{path} does not exist", "name image files, or folders of them")
    return chosen


def _below(folder: Path, suffixes: Set[str]) -> Iterator[Path]:
    found = False
    for here, folders, files in os.walk(folder, onerror=_cannot_read):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if name.startswith(".") or path.suffix.lower() not in suffixes:
                continue
            if path.suffix.lower() in (".gz", ".bz2", ".xz") and not _is_archive(path):
                continue
            found = True
            yield path
    if not found:
        raise ResattnError(f"{folder} holds no image files", "name a folder with images that Pillow reads")


def _cannot_read(error: OSError) -> NoReturn:
    raise ResattnError(
        f"{error.filename} cannot be read ({error.strerror})",
        "allow yourself to read it, or name what is to be",
    ) from error


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"))


def _archive(path: Path, skip: int) -> Iterator[EncodedImage | None]:
    """The images in an archive; of the first `skip` the bytes are passed over."""
    suffixes = image_suffixes()
    try:
        with tarfile.open(path, "r:*", tarinfo=BoundedHeader) as archive:
            for number, member in enumerate(_members(archive, suffixes)):
                if number < skip:
                    yield None
                    continue
                name = f"{path}/{member.name}"
                reader = archive.extractfile(member) if member.size <= MAX_FILE_BYTES else None
                yield EncodedImage(name, reader.read() if reader else None)
            _require_end(archive)
    except Exception as error:  # TarError, OSError, EOFError, zlib.error, LZMAError, RecursionError ...
        raise ResattnError(
            f"{path} cannot be read to its end: {error}", "fetch or make the archive again, then go on"
        ) from error


def _require_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError where an archive was cut off; tarfile takes that for its end. Compressed ones notice."""
    if isinstance(archive.fileobj, io.BufferedReader):
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it is cut short")


def _members(archive: tarfile.TarFile, suffixes: Set[str]) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        # tarfile would keep every header of the archive.
        archive.members = []  # type: ignore[attr-defined]
        name = Path(member.name)
        if member.isfile() and not name.name.startswith(".") and name.suffix.lower() in suffixes:
            yield member


def _table(path: Path, skip: int) -> Iterator[EncodedImage | None]:
    """The images in a table; of the first `skip` whole groups of rows are not read."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ResattnError(
            f"{path} is a Parquet table, and pyarrow is not installed", "pip install 'resattn[parquet]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as table:
            column = _image_column(path, table.schema_arrow)
            row = 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if row + rows <= skip:
                    row += rows
                    yield from [None] * rows
                    continue
                batches = table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column])
                for value in (value for batch in batches for value in batch.column(0)):
                    yield None if row < skip else _encoded(path, row, value.as_py())
                    row += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise ResattnError(
            f"{path} cannot be read to its end: {error}", "fetch or make the table again, then go on"
        ) from error


def _image_column(path: Path, schema: "pyarrow.Schema") -> str:
    """The first column that is called as images are and holds bytes, as they are or in a field of that name."""
    for name in TABLE_COLUMNS:
        if name in schema.names and _holds_bytes(schema.field(name).type):
            return name
    raise ResattnError(
        f"{path} has no column of images, but {', '.join(schema.names)}",
        f"name the column of the encoded images one of {', '.join(TABLE_COLUMNS)}; or move the table away, where its "
        "images are files",
    )


def _holds_bytes(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _encoded(path: Path, row: int, value: Any) -> EncodedImage:
    content = value.get("bytes") if isinstance(value, dict) else value
    usable = isinstance(content, bytes) and len(content) <= MAX_FILE_BYTES
    return EncodedImage(f"{path}#{row}", content if usable else None)

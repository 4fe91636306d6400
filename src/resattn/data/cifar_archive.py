"""Reading CIFAR's official archives, the python and the binary version, without trusting them.

The python version holds pickles. They are read with stand-ins for the few things an array's pickle names:
nothing of NumPy, and nothing else that a pickle could ask for, is ever called.
"""

import io
import pickle
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resattn.data.tar_headers import BoundedHeader
from resattn.errors import ResattnError

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
# A batch: its pixels, of which pickles in Python 3's way take two bytes, and what is said of them.
_MAX_MEMBER_BYTES = {"cifar10": 64 * 2**20, "cifar100": 320 * 2**20}
_MAX_MEMBERS = 100


@dataclass(frozen=True)
class _Parts:
    """The file names of one version of one archive, and the keys (or bytes) its labels are under."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    names: str
    names_key: str = ""
    labels_key: str = ""
    label_bytes: int = 0


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_LAYOUTS: Mapping[str, tuple[_Parts, _Parts]] = {
    "cifar10": (
        _Parts(_BATCHES, ("test_batch",), "batches.meta", "label_names", "labels"),
        _Parts(
            tuple(f"{name}.bin" for name in _BATCHES), ("test_batch.bin",), "batches.meta.txt", label_bytes=1
        ),
    ),
    "cifar100": (
        _Parts(("train",), ("test",), "meta", "fine_label_names", "fine_labels"),
        _Parts(("train.bin",), ("test.bin",), "fine_label_names.txt", label_bytes=2),
    ),
}


@dataclass(frozen=True)
class CifarSplit:
    """Images uint8 N x 32 x 32 x 3 (RGB), their label indices and file names, in the archive's order."""

    images: NDArray[np.uint8]
    labels: tuple[int, ...]
    file_names: tuple[str, ...]


@dataclass(frozen=True)
class Cifar:
    """A whole archive: the label names in its own order, and its splits "train" and "val" (the test
    batch)."""

    label_names: tuple[str, ...]
    splits: Mapping[str, CifarSplit]


class _Wrong(Exception):
    """What is wrong with one member."""


def read_cifar(path: Path, name: str, *, mend: str) -> Cifar:
    """Read the archive at `path` as "cifar10" or "cifar100", python or binary version; raises
    ResattnError."""
    members = _members(path, name, mend)
    parts = next((parts for parts in _LAYOUTS[name] if parts.names in members), _LAYOUTS[name][0])
    missing = [part for part in (*parts.train, *parts.val, parts.names) if part not in members]
    if missing:
        raise ResattnError(f"{path} is not the {name} archive: it holds no {', '.join(missing)}", mend)
    part = parts.names
    try:
        label_names = _label_names(members[part], parts)
        read: dict[str, list[CifarSplit]] = {"train": [], "val": []}
        for split, wanted in (("train", parts.train), ("val", parts.val)):
            for part in wanted:
                read[split].append(_batch(members.pop(part), part, parts, len(label_names)))
    except _Wrong as error:
        raise ResattnError(f"{path}: {part} {error}", mend) from error
    return Cifar(label_names, {split: _join(batches) for split, batches in read.items()})


def _members(path: Path, name: str, mend: str) -> dict[str, bytes]:
    """The files of either version of an archive by their own names, read into memory: nothing is extracted."""
    wanted = {part for parts in _LAYOUTS[name] for part in (*parts.train, *parts.val, parts.names)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*", tarinfo=BoundedHeader) as archive:
            for number, member in enumerate(archive):
                _refuse(path, member, number, _MAX_MEMBER_BYTES[name])
                own_name = PurePosixPath(member.name).name
                if not member.isreg() or own_name not in wanted:
                    continue
                if own_name in found:
                    raise ResattnError(f"{path}: {own_name} is in the archive more than once", mend)
                content = archive.extractfile(member)
                found[own_name] = content.read() if content else b""
                if len(found[own_name]) != member.size:
                    raise EOFError(f"{own_name} is cut short")
    except ResattnError:
        raise
    except PermissionError as error:
        raise ResattnError(
            f"{path} cannot be read ({error.strerror})", "allow yourself to read it"
        ) from error
    except Exception as error:
        # TarError, EOFError, zlib.error, BadGzipFile, IsADirectoryError, struct.error ...
        raise ResattnError(f"{path} is not a whole tar.gz archive ({error})", mend) from error
    return found


def _refuse(path: Path, member: tarfile.TarInfo, number: int, most_bytes: int) -> None:
    mend = "do not trust this archive; get the official one"
    if ".." in member.name.split("/") or member.name.startswith("/"):
        raise ResattnError(f"{path}: the member {member.name!r} leads out of the archive", mend)
    if member.size > most_bytes or number >= _MAX_MEMBERS:
        raise ResattnError(f"{path}: the member {member.name!r} is more than a CIFAR archive can hold", mend)


def _label_names(data: bytes, parts: _Parts) -> tuple[str, ...]:
    if parts.label_bytes:
        names = data.decode("ascii", "replace").split()
    else:
        names = [_text(name) for name in _list(_unpickle(data), parts.names_key)]
    valid = all(re.fullmatch(r"[A-Za-z0-9_ -]+", name) for name in names)
    if len(names) < 2 or len(set(names)) != len(names) or not valid:
        raise _Wrong("does not hold the names of the classes")
    return tuple(names)


def _batch(data: bytes, part: str, parts: _Parts, classes: int) -> CifarSplit:
    split = _binary_batch(data, part, parts) if parts.label_bytes else _python_batch(data, parts)
    count = len(split.images)
    if len(split.labels) != count or len(split.file_names) != count or not count:
        raise _Wrong(f"has {count} images, {len(split.labels)} labels and {len(split.file_names)} file names")
    if not all(type(label) is int and 0 <= label < classes for label in split.labels):
        raise _Wrong(f"has labels that are not 0 to {classes - 1}")
    return split


def _binary_batch(data: bytes, part: str, parts: _Parts) -> CifarSplit:
    """Records of the labels' bytes (the fine one last) and the pixels, channel by channel."""
    record = parts.label_bytes + _PIXELS
    if len(data) % record:
        raise _Wrong(f"has {len(data):,} bytes, which are not whole records of {record:,}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    labels = tuple(int(label) for label in rows[:, parts.label_bytes - 1])
    stem = part.removesuffix(".bin")
    return CifarSplit(
        _images(rows[:, parts.label_bytes :]), labels, tuple(f"{stem}_{n}.png" for n in range(len(rows)))
    )


def _python_batch(data: bytes, parts: _Parts) -> CifarSplit:
    fields = _unpickle(data)
    array = fields.get("data")
    if not isinstance(array, _Array):
        raise _Wrong("has no array 'data'")
    labels = tuple(_list(fields, parts.labels_key))
    return CifarSplit(
        _images(array.pixels()), labels, tuple(_text(name) for name in _list(fields, "filenames"))
    )


def _images(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _join(batches: list[CifarSplit]) -> CifarSplit:
    return CifarSplit(
        np.concatenate([batch.images for batch in batches]),
        tuple(label for batch in batches for label in batch.labels),
        tuple(name for batch in batches for name in batch.file_names),
    )


class _Array:
    """Stands in for numpy.ndarray: keeps what the pickle says about it, as plain values."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def pixels(self) -> NDArray[np.uint8]:
        try:
            _, (count, width), dtype, fortran, raw = self.state
            plain = type(raw) is bytes and isinstance(dtype, _Dtype) and not fortran
            if plain and dtype.code in ("u1", b"u1") and width == _PIXELS and len(raw) == count * width:
                return np.frombuffer(raw, np.uint8).reshape(count, width)
        except (TypeError, ValueError):
            pass
        raise _Wrong(f"has no array of N x {_PIXELS} bytes under 'data'")


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment say nothing about single bytes."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any) -> bytes:
    """What Python 3 writes for bytes in a pickle that Python 2 can read."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("an encoding that no CIFAR archive uses")
    return text.encode("latin1")


class _StandInUnpickler(pickle.Unpickler):
    _allowed: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise _Wrong(f"is a pickle that asks for {module}.{name}; no CIFAR archive does, it was not run")
        return self._allowed[module, name]


def _unpickle(data: bytes) -> dict[str, Any]:
    try:
        content = _StandInUnpickler(io.BytesIO(data), encoding="bytes").load()
    except _Wrong:
        raise
    except Exception as error:  # UnpicklingError, EOFError, IndexError, UnicodeDecodeError, MemoryError ...
        raise _Wrong(f"is damaged ({error})") from error
    if not isinstance(content, dict):
        raise _Wrong("does not hold a dictionary")
    return {_text(key): value for key, value in content.items()}


def _list(fields: dict[str, Any], key: str) -> list[Any]:
    value = fields.get(key)
    if not isinstance(value, list):
        raise _Wrong(f"has no list {key!r}")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, str):
        return value
    raise _Wrong("has a name that is no text")

"""Reading a zip archive that may be damaged or hostile: members are read into memory, and never extracted."""

import re
import stat
import zipfile
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from resattn.errors import ResattnError

MAX_MEMBER_BYTES = 64 * 2**20
_ENCRYPTED = 0x1


class BadMemberError(Exception):
    """A member that cannot be read; the text says why, the caller knows its name."""


class ZipArchive:
    """The files of a zip archive by name; a context manager.

    `members` holds every file once (folders and the droppings of file managers are left out); `repeated` the
    names that occur more than once. Opening raises ResattnError where the file is absent, no zip archive or
    cut short, and where a member's name leads out of the archive or is encrypted: such an archive is refused
    as a whole.
    """

    def __init__(self, path: Path, *, mend: str) -> None:
        self.path = path
        self._zip = _open(path, mend)
        self.members: dict[str, zipfile.ZipInfo] = {}
        self.repeated: set[str] = set()
        try:
            for member in self._zip.infolist():
                _refuse(path, member)
                if not member.is_dir() and not _is_dropping(member.filename):
                    if member.filename in self.members:
                        self.repeated.add(member.filename)
                    self.members.setdefault(member.filename, member)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def read(self, name: str, *, most_bytes: int = MAX_MEMBER_BYTES) -> bytes:
        """The bytes of a member, compared with its checksum; never more than it declares, nor than `most_bytes`.

        Raises BadMemberError.
        """
        member = self.members[name]
        if member.file_size > most_bytes:
            raise BadMemberError(f"declares {member.file_size:,} bytes, over the limit of {most_bytes:,}")
        try:
            with self._zip.open(member) as file:
                data = file.read(member.file_size)
                # A bound read of an empty member does not reach the end, where zipfile compares the checksum.
                if not data:
                    file.read(1)
        except Exception as error:
            # BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, struct.error ...
            raise BadMemberError(f"is damaged in the archive ({error})") from error
        if len(data) != member.file_size:
            raise BadMemberError(f"is cut short: {len(data):,} of {member.file_size:,} bytes")
        return data


def _open(path: Path, mend: str) -> zipfile.ZipFile:
    if path.is_dir():
        raise ResattnError(f"{path} is a folder, not a zip archive", mend)
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise ResattnError(f"{path}: there is no such file", mend) from error
    except PermissionError as error:
        raise ResattnError(
            f"{path} cannot be read ({error.strerror})", "allow yourself to read it"
        ) from error
    except Exception as error:  # zipfile lets struct.error, ValueError, NotImplementedError ... through
        raise ResattnError(f"{path} is not a whole zip archive ({error})", mend) from error


def _refuse(path: Path, member: zipfile.ZipInfo) -> None:
    for name in (member.filename, member.orig_filename):
        parts = name.replace("\\", "/").split("/")
        if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
            raise ResattnError(
                f"{path}: the member {name!r} leads out of the archive",
                "do not trust this archive; get the official one",
            )
    if member.flag_bits & _ENCRYPTED:
        raise ResattnError(
            f"{path}: the member {member.filename!r} is encrypted", "give an archive without a password"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ResattnError(
            f"{path}: the member {member.filename!r} is a link",
            "give an archive that holds the files themselves",
        )


def _is_dropping(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts) or parts[-1:] == ("Thumbs.db",)

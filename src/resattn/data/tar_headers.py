"""Headers of tar archives, of which tarfile would read some whole, however long they say they are."""

import tarfile
from typing import Self

MAX_HEADER_BYTES = 2**20
# Long names, and attributes such as a name in Unicode: they lie in front of the member they are about.
_READ_WHOLE = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class BoundedHeader(tarfile.TarInfo):
    """What to open an archive with, as `tarinfo`: headers over 1 MiB raise tarfile.ReadError before they are read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member that 512 bytes describe."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _READ_WHOLE and not 0 <= member.size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header that no such archive needs")
        return member

"""Where the files of an uncompressed tar archive lie in it, by hopping from header to header.

An archive in an archive is a range of bytes of the outer one, so its files are found, and read, in place.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

_BLOCK = 512
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
             tarfile.GNUTYPE_LONGLINK)  # these have content too, though they are no files


class Member(NamedTuple):
    """A file in an archive: its name, and its content as a range of bytes."""

    name: str
    offset: int
    size: int


def members(file: int, first: int, last: int) -> Iterator[Member]:
    """The files of the archive in the bytes [first, last) of the open `file`, front to back.

    Names come from the plain headers (100 characters at most). Folders and links are left out.

    Raises:
      ValueError: with the reason, if it is no tar archive or is cut off.
      OSError: it cannot be read.
    """
    place = first
    while True:
        header = os.pread(file, _BLOCK, place) if place + _BLOCK <= last else b""
        if header == bytes(_BLOCK):
            return
        if len(header) < _BLOCK:
            raise ValueError("truncated, it has no end" if place > first else "it is empty")
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError("damaged, no file begins where one should" if place > first else
                             "it is not a tar archive") from error
        place += _BLOCK
        size = member.size if member.isreg() or member.type in _EXTENDED else 0
        if place + size > last:
            raise ValueError(f"truncated, it ends within {member.name}")
        if member.isreg():
            yield Member(member.name, place, size)
        place += -(-size // _BLOCK) * _BLOCK


def read(file: int, offset: int, size: int) -> bytes:
    """The bytes [offset, offset + size) of the open `file`, fewer where it ends. Any thread may call it."""
    pieces = []
    while size and (piece := os.pread(file, size, offset)):
        pieces.append(piece)
        offset, size = offset + len(piece), size - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)

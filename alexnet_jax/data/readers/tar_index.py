"""Locates the files in an uncompressed tar archive by jumping from header to header.

A nested archive is a byte range of the outer one, so its files are found and read in place.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

_BLOCK = 512
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
             tarfile.GNUTYPE_LONGLINK)  # not files, but with content


class Member(NamedTuple):
    """A file in an archive: its name, and the byte range of its content."""

    name: str
    offset: int
    size: int


def members(file: int, first: int, last: int) -> Iterator[Member]:
    """The files of the archive in the bytes [first, last) of the open `file`, in order.

    Names come from the plain headers (at most 100 characters). Folders and links are left out.

    Raises:
      ValueError: with the reason, if it isn't a tar archive or is truncated.
      OSError: it can't be read.
    """
    place = first
    while True:
        header = os.pread(file, _BLOCK, place) if place + _BLOCK <= last else b""
        if header == bytes(_BLOCK):
            return
        if len(header) < _BLOCK:
            raise ValueError("truncated: its end is missing" if place > first else "it is empty")
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError("damaged: no file begins where one should" if place > first else
                             "it is not a tar archive") from error
        place += _BLOCK
        size = member.size if member.isreg() or member.type in _EXTENDED else 0
        if place + size > last:
            raise ValueError(f"truncated: it ends within {member.name}")
        if member.isreg():
            yield Member(member.name, place, size)
        place += -(-size // _BLOCK) * _BLOCK


def read(file: int, offset: int, size: int) -> bytes:
    """The bytes [offset, offset + size) of the open `file`, fewer at its end. Thread-safe."""
    pieces = []
    while size and (piece := os.pread(file, size, offset)):
        pieces.append(piece)
        offset, size = offset + len(piece), size - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)

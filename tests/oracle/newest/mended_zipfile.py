"""Mends `zipfile` of Python 3.12.1 and 3.13.0, with which the newest reference can't read graphs.

Imported at the start of every Python process of the environment that `make oracle-newest` makes, since the
reference has worker processes. A jump ahead in a stored member begins where the archive was read last, be it
in another member; and it does not count as read, so that more is asked for at the end than there is.
"""

import os
import zipfile
from typing import Any

_seek_member = zipfile.ZipExtFile.seek
_seek_file = zipfile._SharedFile.seek  # type: ignore[attr-defined]


def seek_member(self: Any, offset: int, whence: int = os.SEEK_SET) -> int:
    """Seek, and know how much is left to be read from there."""
    place = _seek_member(self, offset, whence)
    if self._compress_type == zipfile.ZIP_STORED and self._decrypter is None:
        self._compress_left = self._left
        self._eof = self._left <= 0
    return place


def seek_file(self: Any, offset: int, whence: int = os.SEEK_SET) -> Any:
    """Seek from where this member was read last."""
    if whence == os.SEEK_CUR:
        offset, whence = self._pos + offset, os.SEEK_SET
    return _seek_file(self, offset, whence)


zipfile.ZipExtFile.seek = seek_member  # type: ignore[method-assign]
zipfile._SharedFile.seek = seek_file  # type: ignore[attr-defined]

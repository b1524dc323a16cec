"""URLs of SQLite files, in which some characters of a path mean something else unless they are escaped."""

import urllib.parse
from typing import Final

SPECIAL: Final = "%?#"
"""What has to be escaped: it begins an escape, the query, or (for the reference) a fragment."""


def escaped(path: str) -> str:
    """Return a path as it stands in a URL."""
    return "".join(f"%{ord(char):02X}" if char in SPECIAL else char for char in path)


def path(url: str) -> str | None:
    """Return the file that a URL names; nothing if it is the URL of something else, or names none."""
    scheme, _, rest = url.partition(":///")
    if scheme.partition("+")[0] != "sqlite":
        return None
    # The library that parses URLs does this in its newer versions only.
    return urllib.parse.unquote(rest.partition("?")[0], errors="surrogateescape") or None

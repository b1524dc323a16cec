"""Where a destination sees the files of a source that stay where they are (transfer.md section 7.3)."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence

from aggregator.storage import errors, uris


class RootMap:
    """Directories, or prefixes of objects, under the names that others know them by.

    Parameters
    ----------
    rules
        ``OLD=NEW`` each; both are absolute paths, or URIs.

    Raises
    ------
    RefusedError
        If one is no such rule.
    """

    def __init__(self, rules: Sequence[str]) -> None:
        pairs = []
        for rule in rules:
            old, separator, new = rule.partition("=")
            if not separator or not all(each.startswith("/") or uris.is_remote(each) for each in (old, new)):
                raise errors.RefusedError(
                    f"{rule!r} does not say where a directory is seen. Give OLD=NEW, two absolute paths or "
                    "URIs."
                )
            pairs.append((old.rstrip("/") + "/", new.rstrip("/") + "/"))
        # The most special rule counts.
        self._pairs = sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def seen(self, location: str) -> str:
        """Return where a file is seen, an absolute path or a URI.

        Raises
        ------
        RefusedError
            If no rule tells.
        """
        for old, new in self._pairs:
            if location.startswith(old):
                return new + location[len(old) :]
        raise errors.RefusedError(f"{location}: no --root-map tells where the destination sees it. Give one.")


def path_below(location: str, root: str) -> str | None:
    """Return the path of a file below the root of a datastore; nothing if it is elsewhere."""
    begin = os.path.join(root, "")
    return location[len(begin) :] if location.startswith(begin) else None


def uri(location: str) -> str:
    """Return a location as records have it that lead out of the datastore."""
    return location if uris.is_remote(location) else f"file://{urllib.parse.quote(location)}"

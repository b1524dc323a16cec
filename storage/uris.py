"""URIs of objects and of the roots that they lie below (storage.md section 2).

Keys are unquoted, as a repository's database has them; URIs are quoted. A root keeps the form in which it was
configured, since the names of datastores depend on it.
"""

import dataclasses
import os
import urllib.parse

from aggregator.storage import errors

S3 = frozenset({"s3"})
GCS = frozenset({"gs"})
WEBDAV = frozenset({"http", "https", "dav", "davs"})
REMOTE = S3 | GCS | WEBDAV
"""Schemes that there is a remote store for."""

_UNQUOTED = "/~"
"""Characters that stay as they are in a quoted path, besides letters, digits and ``_.-``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """The parts of a root's URI."""

    scheme: str
    """Scheme in lower case."""

    user: str
    """What is before the ``@``: the name of a profile."""

    authority: str
    """Bucket, or host with port."""

    prefix: str
    """Unquoted path without slashes at its ends."""


def scheme(location: str) -> str:
    """Return the scheme of a location in lower case; empty for a path."""
    name, separator, _ = location.partition("://")
    return name.lower() if separator else ""


def is_absolute(location: str) -> bool:
    """Return whether a location is a path from the root, or a URI."""
    return location.startswith("/") or bool(scheme(location))


def is_remote(location: str) -> bool:
    """Return whether a location needs a remote store."""
    return scheme(location) in REMOTE


def parse(root: str) -> Root:
    """Return the parts of a remote root.

    Raises
    ------
    RefusedError
        If it names no bucket or host, or holds a password.
    """
    # By hand: a tenant before a bucket's colon is no host with a port, and `#` and `?` belong to the path.
    name, _, rest = root.partition("://")
    netloc, _, path = rest.partition("/")
    user, _, authority = netloc.rpartition("@")
    if ":" in user:
        raise errors.RefusedError(
            f"{name}://***@{authority}/{path}: a password can't stand in a URI; give it by the environment."
        )
    if not authority:
        raise errors.RefusedError(f"{root}: names no bucket or host.")
    return Root(name.lower(), user, authority, urllib.parse.unquote(path).strip("/"))


def join(root: str, key: str) -> str:
    """Return the URI of an object below a remote root."""
    base, _, path = root.rstrip("/").partition("://")
    netloc, slash, path = path.partition("/")
    quoted = urllib.parse.quote(urllib.parse.unquote(path), safe=_UNQUOTED)
    return f"{base}://{netloc}{slash}{quoted}/{urllib.parse.quote(key, safe=_UNQUOTED)}"


def split(location: str) -> tuple[str, str]:
    """Return the root that a remote file lies directly below, and its key there.

    Raises
    ------
    RefusedError
        If it names no file, no bucket or host, or holds a password.
    """
    parts = parse(location)
    root, _, name = location.rpartition("/")
    if not name or not parts.prefix:
        raise errors.RefusedError(f"{location}: names no file.")
    return root.rstrip("/"), urllib.parse.unquote(name)


def relative(location: str, root: str) -> str | None:
    """Return the key of a remote file below a remote root; nothing if it is not below it, by their names."""
    parts, above = parse(location), parse(root)
    prefix = f"{above.prefix}/" if above.prefix else ""
    if (parts.scheme, parts.user, parts.authority) != (above.scheme, above.user, above.authority):
        return None
    return parts.prefix.removeprefix(prefix) if parts.prefix.startswith(prefix) else None


def absolute(location: str) -> str:
    """Return a path from the root of the file system on, or a remote URI in its usual form."""
    return normal(location) if is_remote(location) else os.path.abspath(location)


def normal(location: str) -> str:
    """Return the URI of a remote file in its usual form; raises as `split`."""
    return join(*split(location))

"""Names and passwords for databases, from a file of the user's (butler-repository.md section 12).

What is not found there is left to the database's own library: ``PG*`` variables and ``~/.pgpass``.
"""

import fnmatch
import json
import os
import stat
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy
import yaml
from aggregator.storage import errors, local_files

FILE_VARIABLE: Final = "LSST_DB_AUTH"
"""Environment variable with the path of the file."""

CONTENT_VARIABLE: Final = "LSST_DB_AUTH_CREDENTIALS"
"""Environment variable with the content itself, as JSON; it comes before any file."""

DEFAULT_PATH: Final = "~/.lsst/db-auth.yaml"
"""Where the file is if nothing else is said; it need not exist."""


def complete(url: sqlalchemy.URL) -> sqlalchemy.URL:
    """Fill in the name and password that the user has noted for a database.

    Parameters
    ----------
    url
        URL of the database; without a host or a database it is left as it is.

    Raises
    ------
    RefusedError
        Raised if the file is open to others, can't be read, or has an entry that can't be used. No message
        has any part of a password.
    """
    if not url.host or not url.database:
        return url
    source, entries = _read()
    if not isinstance(entries, list):
        raise errors.RefusedError(f"{source}: has to be a list of entries with url, username and password.")
    for number, entry in enumerate(entries, 1):
        place = f"{source}, entry {number}"
        if _fits(_pattern(place, entry), url):
            if entry.get("password") is None:
                raise errors.RefusedError(f"{place}: has no password.")
            name = url.username or entry.get("username")
            return url.set(username=name, password=str(entry["password"]))
    return url


def _read() -> tuple[str, Any]:
    """Return where entries come from, and what is there; parsers' messages would quote it."""
    text = os.environ.get(CONTENT_VARIABLE)
    if text:
        place = f"environment variable {CONTENT_VARIABLE}"
        try:
            return place, json.loads(text)
        except ValueError:
            raise errors.RefusedError(f"{place}: is not JSON.") from None
    path = os.path.expanduser(os.environ.get(FILE_VARIABLE, DEFAULT_PATH))
    if not local_files.exists(path):
        return path, []
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise errors.RefusedError(
            f"{path}: holds passwords, but is open to others (mode {mode:o}). Run chmod 600 {path}"
        )
    try:
        return path, yaml.safe_load(local_files.read(path).decode())
    except (OSError, local_files.UnusableError) as error:
        raise errors.RefusedError(f"{path}: can't be read: {local_files.reason(error)}.") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        raise errors.RefusedError(f"{path}: is not YAML.") from None


def _pattern(place: str, entry: Any) -> urllib.parse.SplitResult:
    """Return the pattern of an entry."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("url"), str):
        raise errors.RefusedError(f"{place}: has no url.")
    try:
        pattern = urllib.parse.urlsplit(entry["url"])
        usable = bool(pattern.hostname) and "+" not in pattern.scheme and (pattern.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not pattern.scheme:
        raise errors.RefusedError(f"{place}: its url has to be like postgresql://host, with * for any host.")
    return pattern


def _fits(pattern: urllib.parse.SplitResult, url: sqlalchemy.URL) -> bool:
    """Return whether a URL has all that a pattern asks for; host and database may have wildcards."""
    database = pattern.path.lstrip("/")
    return (
        pattern.scheme == url.get_backend_name()
        and fnmatch.fnmatch(url.host or "", pattern.hostname or "")
        and pattern.port in (None, url.port)
        and (not database or fnmatch.fnmatch(url.database or "", database))
        and pattern.username in (None, url.username)
    )

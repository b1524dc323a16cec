"""Clients of object stores, and what their errors mean."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import obstore
from aggregator.storage import errors, local_files, s3_settings, uris
from obstore import exceptions
from obstore import store as clients

_CLIENT: clients.ClientConfig = {"connect_timeout": "5s", "timeout": "60s"}
_RETRIES: clients.RetryConfig = {"max_retries": 10, "retry_timeout": datetime.timedelta(minutes=3)}


_NO_BUCKET = "NoSuchBucket"
"""What servers say where there is no such bucket."""


T = TypeVar("T")

_PAUSES = (0.05, 0.2, 1.0)
"""Seconds to wait before another attempt."""

_SOON = 5.0
"""Seconds within which something fails that the client has not asked for again."""

_DENIED = "access is denied; see credentials, and the clock of this host"

_STATUS = re.compile(r"status code: ([0-9]{3})")
"""What the client writes of answers that it knows no class for."""


class OutOfRangeError(Exception):
    """A range begins where an object ends, or beyond."""


@contextlib.contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what a client raises while it asks for something into our own errors.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If a server says that there is no such key, or that there is one already.
    UnusableError
        If it denies access.
    MachineError
        If nobody knows.
    """
    try:
        yield
    except FileNotFoundError as exc:
        if _NO_BUCKET in str(exc):
            raise errors.MachineError(place, "there is no such bucket") from exc
        raise FileNotFoundError(2, "No such object", place) from exc
    except exceptions.AlreadyExistsError as exc:
        raise FileExistsError(17, "There is an object already", place) from exc
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as exc:
        raise local_files.UnusableError(_DENIED) from exc
    except exceptions.InvalidPathError as exc:
        raise local_files.UnusableError("its name can't be a key") from exc
    except (exceptions.BaseError, OSError, ValueError) as exc:
        # Only text tells these apart.
        status = _STATUS.search(str(exc))
        match int(status[1]) if status else 0:
            case 416:
                raise OutOfRangeError from exc
            case 401 | 403:
                raise local_files.UnusableError(_DENIED) from exc
            case 404 if _NO_BUCKET in str(exc):
                raise errors.MachineError(place, "there is no such bucket") from exc
        raise errors.MachineError(place, _brief(exc)) from exc


def patiently(action: Callable[[], T]) -> T:
    """Return what an action gives, repeated a few times if it fails soon.

    The client itself asks again for minutes, but not for a body that breaks off in an unlucky moment.

    Raises
    ------
    MachineError
        If it goes on failing.
    """
    for pause in _PAUSES:
        began = time.monotonic()
        try:
            return action()
        except errors.MachineError:
            if time.monotonic() - began > _SOON:
                raise
            time.sleep(pause)
    return action()


def _brief(exc: Exception) -> str:
    """Return the first line of what a client says; requests with their headers may follow it."""
    text = str(exc).strip().partition("\n")[0]
    return text[:300] or type(exc).__name__


_clients: dict[str, Any] = {}


def client(root: str) -> Any:
    """Return the client for a root, which is made when it is first needed; raises as `connect`."""
    return _clients[root] if root in _clients else connect(root)


def connect(root: str) -> Any:
    """Make a client for a root, as the environment is now, and make sure that the bucket is there.

    Raises
    ------
    RefusedError
        If there are no credentials, no such bucket, or no right to look into it.
    MachineError
        If the server can't be reached.
    """
    parts = uris.parse(root)
    with _few_threads():
        made = _s3(parts) if parts.scheme in uris.S3 else _gcs(parts)
        try:
            # Only now "no such key" means what it says.
            with explained(root):
                next(iter(obstore.list(made, prefix=parts.prefix or None, chunk_size=1)), None)
        except (local_files.UnusableError, FileNotFoundError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise errors.RefusedError(f"{root}: can't look into it: {reason}.") from exc
        except errors.MachineError as exc:
            if "no such bucket" in exc.reason:
                raise errors.RefusedError(f"{root}: {exc.reason}.") from exc
            raise
    _clients[root] = made
    return made


def server(root: str) -> str:
    """Return what tells the server of a root from others."""
    parts = uris.parse(root)
    endpoint = s3_settings.read(parts.user, parts.authority).endpoint if parts.scheme in uris.S3 else None
    return endpoint or parts.scheme


def _s3(parts: uris.Root) -> Any:
    settings = s3_settings.read(parts.user, parts.authority)
    config: clients.S3Config = {"region": settings.region, "virtual_hosted_style_request": False}
    if settings.metadata is None:
        config |= {"access_key_id": settings.key, "secret_access_key": settings.secret}
    elif settings.metadata:
        config["metadata_endpoint"] = settings.metadata
    if settings.token is not None:
        config["session_token"] = settings.token
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
    is_plain = (settings.endpoint or "").startswith("http://")
    options: clients.ClientConfig = {**_CLIENT, "allow_http": is_plain}
    return clients.S3Store(parts.authority, config=config, client_options=options, retry_config=_RETRIES)


def _gcs(parts: uris.Root) -> Any:
    if not os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        raise errors.RefusedError(
            f"gs://{parts.authority}: no credentials; set GOOGLE_APPLICATION_CREDENTIALS to their file."
        )
    return clients.GCSStore(parts.authority, client_options=_CLIENT, retry_config=_RETRIES)


@contextlib.contextmanager
def _few_threads() -> Iterator[None]:
    """Let the library start one thread for its work, however many cores there are."""
    name = "TOKIO_WORKER_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

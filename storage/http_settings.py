"""How a WebDAV or HTTP server is reached, as users of the Rubin middleware say it (storage.md section 3)."""

from __future__ import annotations

import dataclasses
import os
import ssl
import stat
from collections.abc import Mapping

from aggregator.storage import errors, local_files

_TOKEN = "LSST_HTTP_AUTH_BEARER_TOKEN"
_CERTIFICATE = "LSST_HTTP_AUTH_CLIENT_CERT"
_KEY = "LSST_HTTP_AUTH_CLIENT_KEY"
_PROXY = "X509_USER_PROXY"
_AUTHORITIES = "LSST_HTTP_CACERT_BUNDLE"
_CONNECT, _READ = "LSST_HTTP_TIMEOUT_CONNECT", "LSST_HTTP_TIMEOUT_READ"


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What belongs to each request."""

    connect_timeout: float
    """Seconds to wait for a connection."""

    read_timeout: float
    """Seconds to wait for bytes."""

    tls: ssl.SSLContext | None
    """Whom to trust, and the certificate of this user; nothing without TLS."""


def read(is_secure: bool, environment: Mapping[str, str] | None = None) -> Settings:
    """Return how to connect to servers.

    Parameters
    ----------
    is_secure
        Whether the server has TLS.
    environment
        Variables; by default those of this process.

    Raises
    ------
    RefusedError
        If something that they name can't be used.
    """
    given = os.environ if environment is None else environment
    timeouts = (_seconds(given, _CONNECT, 10.0), _seconds(given, _READ, 60.0))
    if not is_secure:
        return Settings(*timeouts, None)
    return Settings(*timeouts, _context(given))


def _seconds(given: Mapping[str, str], name: str, default: float) -> float:
    try:
        seconds = float(given.get(name) or default)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise errors.RefusedError(f"{name}: has to be a number of seconds.")
    return seconds


def token(environment: Mapping[str, str] | None = None) -> str:
    """Return the bearer token, for servers with TLS only; empty for none.

    It is given as such, or as the name of a file, which may be renewed at any time.

    Raises
    ------
    RefusedError
        If it can't be read, or others may read it, too.
    """
    value = (os.environ if environment is None else environment).get(_TOKEN, "")
    if not os.path.isabs(value):
        return value
    try:
        if stat.S_IMODE(os.stat(value).st_mode) & 0o077:
            raise errors.RefusedError(f"{value}: others may read the token in it; chmod 600.")
        return local_files.read(value).decode().strip()
    except (OSError, local_files.UnusableError, UnicodeDecodeError) as exc:
        raise errors.RefusedError(f"{value}: can't read the token ({type(exc).__name__}).") from exc


def _context(given: Mapping[str, str]) -> ssl.SSLContext:
    bundle = given.get(_AUTHORITIES) or None
    certificate, key = given.get(_CERTIFICATE), given.get(_KEY)
    if bool(certificate) != bool(key):
        raise errors.RefusedError(f"{_CERTIFICATE} and {_KEY}: either both or none have to be set.")
    if not certificate and (proxy := given.get(_PROXY)):
        certificate = key = proxy
    try:
        context = ssl.create_default_context()
        if bundle is not None:
            is_directory = os.path.isdir(bundle)
            context.load_verify_locations(*((None, bundle) if is_directory else (bundle, None)))
    except (OSError, ssl.SSLError) as exc:
        raise errors.RefusedError(f"{_AUTHORITIES}: can't use {bundle} ({type(exc).__name__}).") from exc
    try:
        if certificate and key:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as exc:
        raise errors.RefusedError(
            f"{certificate}: can't use the certificate ({type(exc).__name__})."
        ) from exc
    return context

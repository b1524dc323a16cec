"""How a bucket is reached, as users of the Rubin middleware say it (storage.md section 3)."""

from __future__ import annotations

import dataclasses
import os
import re
import urllib.parse
from collections.abc import Mapping

from aggregator.storage import errors, local_files

_PROFILE = "LSST_RESOURCES_S3_PROFILE_"
_ENDPOINT = "S3_ENDPOINT_URL"
_NO_VALIDATION = "LSST_DISABLE_BUCKET_VALIDATION"
_REGION = "us-east-1"
_METADATA = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

INSTANCE_CREDENTIALS = "AGGREGATOR_S3_INSTANCE_CREDENTIALS"
"""Variable that, if not empty, lets the address be asked at which cloud machines hand out credentials."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Server and credentials of a bucket."""

    endpoint: str | None
    """URL of the server without credentials; nothing for Amazon's own."""

    region: str
    """Region that requests are signed for."""

    key: str = dataclasses.field(repr=False)
    """Access key."""

    secret: str = dataclasses.field(repr=False)
    """Secret key."""

    token: str | None = dataclasses.field(default=None, repr=False)
    """Token of a session."""

    metadata: str | None = None
    """URL at which this machine hands out credentials, if there are none else and it may be asked; empty for
    the usual one."""


def read(profile: str, bucket: str, environment: Mapping[str, str] | None = None) -> Settings:
    """Return how to reach a bucket.

    Parameters
    ----------
    profile
        Name before the ``@`` of its URI; empty for none.
    bucket
        The bucket.
    environment
        Variables; by default those of this process.

    Raises
    ------
    RefusedError
        If no credentials are to be found, or something can't be read.
    """
    given = os.environ if environment is None else environment
    if ":" in bucket and given.get(_NO_VALIDATION, "").lower() in ("", "0", "f", "n", "false"):
        raise errors.RefusedError(
            f"s3://{bucket}: has a tenant in the bucket's name; that needs {_NO_VALIDATION}=1."
        )
    url = given.get(f"{_PROFILE}{profile}") if profile else None
    is_named = bool(url)
    endpoint, key, secret = _split(url or given.get(_ENDPOINT) or "")
    token = None
    if not key:
        # The name is that of a profile in the files, unless a variable has said all about it.
        name = profile if profile and not is_named else given.get("AWS_PROFILE", "")
        key, secret, token = _credentials(name, bool(profile) and not is_named, given)
    metadata = given.get(_METADATA, "") if not key and given.get(INSTANCE_CREDENTIALS) else None
    if not key and metadata is None:
        raise errors.RefusedError(
            f"s3://{profile + '@' if profile else ''}{bucket}: no credentials. Set AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, or {_PROFILE}<name>, or a profile in ~/.aws/credentials; or give "
            "--s3-instance-credentials on a cloud machine that has some."
        )
    region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or _REGION
    return Settings(endpoint, region, key, secret, token, metadata)


def _split(url: str) -> tuple[str | None, str, str]:
    """Return endpoint, key and secret from a URL that may hold credentials."""
    if not url:
        return None, "", ""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise errors.RefusedError(f"{_ENDPOINT} or {_PROFILE}*: has to be a URL, https://... or http://...")
    netloc, slash, path = rest.partition("/")
    user, _, host = netloc.rpartition("@")
    key, _, secret = map(urllib.parse.unquote, user.partition(":"))
    endpoint = f"{scheme}://{host}{slash}{path}".rstrip("/")
    try:
        parts = urllib.parse.urlsplit(endpoint)
        is_url = scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or re.search(r"[^!-~]", endpoint):
        # Nothing of it is shown, since what is wrong with it may be a secret.
        raise errors.RefusedError(f"{_ENDPOINT} or {_PROFILE}*: is no URL of a server.")
    return endpoint, key, secret


def _credentials(name: str, is_asked: bool, given: Mapping[str, str]) -> tuple[str, str, str | None]:
    """Return key, secret and token of a profile that is asked for, of variables, or of the default one."""
    if not is_asked and given.get("AWS_ACCESS_KEY_ID") and given.get("AWS_SECRET_ACCESS_KEY"):
        token = given.get("AWS_SESSION_TOKEN") or None
        return given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], token
    home = os.path.expanduser("~")
    files = (
        (given.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(home, ".aws", "credentials"), ""),
        (given.get("AWS_CONFIG_FILE") or os.path.join(home, ".aws", "config"), "profile "),
    )
    for path, before in files:
        section = _section(os.path.expanduser(path), name or "default", before)
        if section.get("aws_access_key_id") and section.get("aws_secret_access_key"):
            token = section.get("aws_session_token")
            return section["aws_access_key_id"], section["aws_secret_access_key"], token
    return "", "", None


def _section(path: str, name: str, before: str) -> Mapping[str, str]:
    if not local_files.is_there(path):
        return {}
    # Most commands know this module for a name in it.
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(local_files.read(path).decode())
    except (OSError, local_files.UnusableError, UnicodeDecodeError) as exc:
        raise errors.RefusedError(f"{path}: the credentials can't be read ({type(exc).__name__}).") from exc
    except configparser.Error:
        # What is wrong with it may be shown with a secret.
        raise errors.RefusedError(f"{path}: is no file of AWS credentials.") from None
    for section in (name, f"{before}{name}"):
        if parser.has_section(section):
            return dict(parser.items(section))
    return {}

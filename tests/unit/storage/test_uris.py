from typing import Any

import pytest
from aggregator.storage import errors, uris


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        ("s3://bucket", ("s3", "", "bucket", "")),
        ("s3://bucket/", ("s3", "", "bucket", "")),
        ("s3://prof@bucket/a/b/", ("s3", "prof", "bucket", "a/b")),
        ("s3://tenant:bucket/a", ("s3", "", "tenant:bucket", "a")),
        ("s3://prof@tenant:bucket/a", ("s3", "prof", "tenant:bucket", "a")),
        ("s3://bucket/a b/", ("s3", "", "bucket", "a b")),
        ("s3://bucket/a%20b", ("s3", "", "bucket", "a b")),
        ("s3://bucket/a#b?c", ("s3", "", "bucket", "a#b?c")),
        ("S3://bucket/X", ("s3", "", "bucket", "X")),
        ("https://host:8443/webdav/repo", ("https", "", "host:8443", "webdav/repo")),
    ],
)
def test_parts_of_roots(root: str, parts: tuple[str, ...]) -> None:
    parsed = uris.parse(root)
    assert (parsed.scheme, parsed.user, parsed.authority, parsed.prefix) == parts


@pytest.mark.parametrize("root", ["s3://", "s3:///a", "s3://prof@/a"])
def test_roots_without_bucket(root: str) -> None:
    with pytest.raises(errors.RefusedError, match="no bucket"):
        uris.parse(root)


def test_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(errors.RefusedError) as raised:
        uris.parse("s3://key:hidden@bucket/a")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "quoted"),
    [
        ("d e/f.json", "d%20e/f.json"),
        ("a+b", "a%2Bb"),
        ("it's", "it%27s"),
        ("é", "%C3%A9"),
        ("d#e/f", "d%23e/f"),
        ("a~b", "a~b"),
        ("%20", "%2520"),
    ],
)
def test_locations_are_quoted(key: str, quoted: str) -> None:
    assert uris.join("s3://prof@bucket/a b/", key) == f"s3://prof@bucket/a%20b/{quoted}"
    assert uris.join("s3://bucket", key) == f"s3://bucket/{quoted}"


@pytest.mark.parametrize(
    ("location", "remote"),
    [
        ("s3://b/a", True),
        ("gs://b", True),
        ("davs://h/a", True),
        ("/a/b", False),
        ("file:///a", False),
        ("a://b", False),
        ("", False),
    ],
)
def test_what_is_remote(location: str, remote: Any) -> None:
    assert uris.is_remote(location) is remote

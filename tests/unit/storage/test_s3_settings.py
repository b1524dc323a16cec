from __future__ import annotations

import pathlib

import pytest
from aggregator.storage import errors, s3_settings

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path


def seen(settings: s3_settings.Settings) -> tuple[str | None, str, str, str | None]:
    return settings.endpoint, settings.key, settings.secret, settings.token


def test_keys_of_the_environment() -> None:
    settings = s3_settings.read("", "b", {**KEYS, "AWS_SESSION_TOKEN": "t"})
    assert seen(settings) == (None, "id", "secret", "t")
    assert settings.region == "us-east-1"
    assert s3_settings.read("", "b", {**KEYS, "AWS_DEFAULT_REGION": "eu-west-1"}).region == "eu-west-1"


def test_an_endpoint_with_keys_that_are_quoted() -> None:
    given = {**KEYS, "S3_ENDPOINT_URL": "https://other:a%2Fb%2Bc@host:9000/sub/"}
    assert seen(s3_settings.read("", "b", given)) == ("https://host:9000/sub", "other", "a/b+c", None)
    given = {**KEYS, "S3_ENDPOINT_URL": "http://host:9000"}
    assert seen(s3_settings.read("", "b", given)) == ("http://host:9000", "id", "secret", None)
    assert seen(s3_settings.read("", "b", {**KEYS, "S3_ENDPOINT_URL": ""})) == (None, "id", "secret", None)


@pytest.mark.parametrize(
    "url",
    [
        "https://k:verysecret@host:9:9",
        "ftp://host",
        "https://k:verysecret@",
        "https://k:s@ho st",
        "http://h:x",
    ],
)
def test_an_endpoint_that_is_none(url: str) -> None:
    with pytest.raises(errors.RefusedError, match="no URL of a server") as raised:
        s3_settings.read("", "b", {**KEYS, "S3_ENDPOINT_URL": url})
    assert "verysecret" not in str(raised.value)


def test_credentials_of_the_machine() -> None:
    allowed = {"AGGREGATOR_S3_INSTANCE_CREDENTIALS": "1", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://m"}
    assert s3_settings.read("", "b", allowed).metadata == "http://m"
    assert s3_settings.read("", "b", {**allowed, **KEYS}).metadata is None
    assert s3_settings.read("", "b", {"AGGREGATOR_S3_INSTANCE_CREDENTIALS": "1"}).metadata == ""


def test_a_profile_of_the_environment() -> None:
    given = {
        **KEYS,
        "S3_ENDPOINT_URL": "https://wrong",
        "LSST_RESOURCES_S3_PROFILE_site": "https://k:s@right",
        "LSST_RESOURCES_S3_PROFILE_bare": "https://bare",
    }
    assert seen(s3_settings.read("site", "b", given)) == ("https://right", "k", "s", None)
    assert seen(s3_settings.read("bare", "b", given)) == ("https://bare", "id", "secret", None)


def test_profiles_of_files(home: pathlib.Path) -> None:
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = e\n"
        "[site]\naws_access_key_id=f\naws_secret_access_key=g%h\naws_session_token=t\n"
    )
    (home / ".aws" / "config").write_text(
        "[profile late]\naws_access_key_id = l\naws_secret_access_key = m\n"
    )
    assert seen(s3_settings.read("", "b", {})) == (None, "d", "e", None)
    assert seen(s3_settings.read("", "b", {"AWS_PROFILE": "site"})) == (None, "f", "g%h", "t")
    assert seen(s3_settings.read("site", "b", KEYS)) == (None, "f", "g%h", "t")
    assert seen(s3_settings.read("late", "b", {})) == (None, "l", "m", None)
    with pytest.raises(errors.RefusedError, match="no credentials"):
        s3_settings.read("absent", "b", {})


def test_a_damaged_file_is_not_shown(home: pathlib.Path) -> None:
    (home / ".aws" / "credentials").write_text("aws_secret_access_key = hidden\n")
    with pytest.raises(errors.RefusedError, match="no file of AWS credentials") as raised:
        s3_settings.read("", "b", {})
    assert "hidden" not in str(raised.value)


def test_no_secret_in_texts() -> None:
    settings = s3_settings.read("", "b", {**KEYS, "AWS_SESSION_TOKEN": "token"})
    assert "secret" not in repr(settings)
    assert "token" not in repr(settings)


def test_a_tenant_has_to_be_allowed() -> None:
    with pytest.raises(errors.RefusedError, match="LSST_DISABLE_BUCKET_VALIDATION"):
        s3_settings.read("", "tenant:b", KEYS)
    s3_settings.read("", "tenant:b", {**KEYS, "LSST_DISABLE_BUCKET_VALIDATION": "1"})

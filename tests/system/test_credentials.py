"""Passwords from the user's file: the same as the reference finds, and never shown."""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import tempfile
from typing import Any

import pytest
import sqlalchemy
import yaml
from aggregator.butler.configuration import credentials
from aggregator.storage import errors

NOBODY = 65534
SECRET = "hush#1"

ENTRIES: list[dict[str, Any]] = [
    {"url": "mysql://*", "username": "other", "password": "0"},
    {"url": "postgresql://boss@host.example.org/db", "password": "1"},
    {"url": "postgresql://host.example.org:99", "username": "a", "password": "2"},
    {"url": "postgresql://host.example.org/data_*", "username": "b", "password": "3"},
    {"url": "postgresql://host.example.org/", "username": "c", "password": "4"},
    {"url": "postgresql://nameless.example.org", "password": 5},
    {"url": "postgresql://ho*2.example.org", "username": "d", "password": "6"},
]

URLS = [
    "postgresql://host.example.org/db",
    "postgresql://boss@host.example.org/db",
    "postgresql://clerk@host.example.org/db",
    "postgresql://boss:old@host.example.org/db",
    "postgresql://boss@host.example.org:99/other",
    "postgresql://host.example.org:99/data_1",
    "postgresql://host.example.org:98/data_1",
    "postgresql://me@nameless.example.org/db",
    "postgresql://nameless.example.org/db",
    "postgresql://host2.example.org/db",
    "postgresql://elsewhere.example.org/db",
    "postgresql://me:given@elsewhere.example.org/db",
    "postgresql://host.example.org",
    "postgresql:///db?host=host.example.org",
]


@pytest.fixture
def path(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return the path of a file that only its owner may read."""
    found = tmp_path / "db-auth.yaml"
    found.touch(0o600)
    monkeypatch.setenv(credentials.FILE_VARIABLE, str(found))
    monkeypatch.delenv(credentials.CONTENT_VARIABLE, raising=False)
    return found


def ours(url: str) -> tuple[str | None, str | None]:
    found = credentials.complete(sqlalchemy.make_url(url))
    return found.username, found.password


def theirs(url: str) -> tuple[str | None, str | None]:
    module = pytest.importorskip("lsst.daf.butler.registry.connectionString")
    found = module.ConnectionStringFactory.fromConfig({"db": url})
    return found.username, None if found.password is None else str(found.password)


@pytest.mark.parametrize("source", ["file", "variable"])
@pytest.mark.parametrize("url", URLS)
def test_same_as_the_reference(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, source: str, url: str
) -> None:
    if source == "file":
        path.write_text(yaml.safe_dump(ENTRIES))
    else:
        path.write_text("[{url: 'postgresql://*', username: nobody, password: none}]")
        monkeypatch.setenv(credentials.CONTENT_VARIABLE, json.dumps(ENTRIES))
    assert ours(url) == theirs(url)


def test_urls_tell_entries_apart(path: pathlib.Path) -> None:
    path.write_text(yaml.safe_dump(ENTRIES))
    assert {ours(url)[1] for url in URLS} == {None, "given", *"123456"}


def test_default_place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(credentials.FILE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ours(URLS[0]) == (None, None) == theirs(URLS[0])
    (tmp_path / ".lsst").mkdir()
    path = tmp_path / ".lsst" / "db-auth.yaml"
    path.touch(0o600)
    path.write_text(yaml.safe_dump(ENTRIES))
    assert ours(URLS[0]) == ("c", "4") == theirs(URLS[0])


def test_missing_file_is_no_error(path: pathlib.Path) -> None:
    path.unlink()
    assert ours(URLS[0]) == (None, None) == theirs(URLS[0])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_file_open_to_others_is_refused(path: pathlib.Path, mode: int) -> None:
    path.write_text(yaml.safe_dump(ENTRIES))
    path.chmod(mode)
    with pytest.raises(errors.RefusedError, match=rf"mode {mode:o}\). Run chmod 600 .*db-auth\.yaml"):
        ours(URLS[0])
    with pytest.raises(Exception, match="permissions"):
        theirs(URLS[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{{url: 'postgresql://*', password: '{SECRET}'", "is not YAML"),
        (f"password: {SECRET}", "has to be a list"),
        (f"[{SECRET}]", "entry 1: has no url"),
        (f"[{{password: '{SECRET}'}}]", "entry 1: has no url"),
        (f"[{{url: host, password: '{SECRET}'}}]", "entry 1: its url"),
        (f"[{{url: 'postgresql:///db', password: '{SECRET}'}}]", "entry 1: its url"),
        (f"[{{url: 'postgresql://host:port', password: '{SECRET}'}}]", "entry 1: its url"),
        (f"[{{url: 'postgresql+psycopg2://*', password: '{SECRET}'}}]", "entry 1: its url"),
        ("[{url: 'postgresql://*', username: me}]", "entry 1: has no password"),
    ],
)
def test_bad_file_is_refused_without_quoting_it(path: pathlib.Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(errors.RefusedError, match=message) as caught:
        ours(URLS[0])
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def look_without_permission(path: str) -> None:
    if os.getuid() == 0:
        os.setuid(NOBODY)
    os.environ[credentials.FILE_VARIABLE] = path
    with pytest.raises(errors.RefusedError, match="can't be read"):
        ours(URLS[0])


def test_unreadable_file_is_refused() -> None:
    # Not below tmp_path, which other users can't enter.
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        path = pathlib.Path(name, "db-auth.yaml")
        path.touch(0)
        context = multiprocessing.get_context("fork")
        process = context.Process(target=look_without_permission, args=(str(path),))
        process.start()
        process.join()
        assert process.exitcode == 0


def test_bad_variable_is_refused_without_quoting_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(credentials.CONTENT_VARIABLE, f"[{SECRET}")
    with pytest.raises(errors.RefusedError, match="LSST_DB_AUTH_CREDENTIALS: is not JSON") as caught:
        ours(URLS[0])
    assert SECRET not in str(caught.value)

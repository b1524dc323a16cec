"""Packages that a graph names: distributions, conda packages, Python."""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import sys

import pytest
from aggregator.workers.roles.writing import software_environment


@pytest.fixture
def site(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return the only directory that distributions are found in."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def add(site: pathlib.Path, name: str, metadata: str) -> None:
    directory = site / f"{name}.dist-info"
    directory.mkdir()
    (directory / "METADATA").write_text(metadata)


def test_distributions_are_listed_with_their_versions(site: pathlib.Path) -> None:
    add(site, "plain-1.5", "Metadata-Version: 2.1\nName: plain\nVersion: 1.5\n\nVersion: 9 is not meant")
    add(site, "lsst_pipe_base-30.1", "Name: lsst-pipe-base\nVersion: 30.1\n\n")
    add(site, "lsst.utils-7", "Name: lsst.utils\nVersion: 7\n")
    assert software_environment.packages() == {
        "python": sys.version, "plain": "1.5", "pipe_base": "30.1", "utils": "7",
    }  # fmt: skip


def test_what_a_quick_look_does_not_find_is_parsed(site: pathlib.Path) -> None:
    add(site, "odd-2", "Name: odd\nVersion:\n 2\n\n")
    [distribution] = importlib.metadata.distributions()
    assert software_environment.packages()["odd"] == distribution.version


def test_conda_packages_come_in_addition(
    site: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "envs" / "[my env]"
    (prefix / "conda-meta").mkdir(parents=True)
    for name, content in {
        "a": json.dumps({"name": "numpy", "version": "2.1"}), "b": "no JSON", "c": "[]", "d": '{"name": "x"}',
    }.items():  # fmt: skip
        (prefix / "conda-meta" / f"{name}.json").write_text(content)
    (prefix / "conda-meta" / "directory.json").mkdir()
    monkeypatch.setenv("CONDA_PREFIX", str(prefix))
    monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "python"))
    found = software_environment.packages()
    assert found == {"python": sys.version, "numpy": "2.1", "conda_env": "[my env]"}
    monkeypatch.setattr(sys, "executable", "/usr/bin/python")
    assert "conda_env" not in software_environment.packages()

"""The versions of packages that are in use."""

from __future__ import annotations

import importlib
import importlib.metadata
import pathlib
import sys

import pytest
from aggregator.execution import init_outputs


def install(site: pathlib.Path, version: str) -> None:
    metadata = site / f"odd_one-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: odd-one\nVersion: {version}\n")
    (metadata / "top_level.txt").write_text("odd_one_module\n")
    (site / "odd_one_module.py").write_text("")


def test_what_is_installed_meanwhile_is_seen(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "odd-one" not in init_outputs.package_versions()
    install(tmp_path, "1.5")
    importlib.invalidate_caches()
    monkeypatch.setitem(sys.modules, "odd_one_module", importlib.import_module("odd_one_module"))
    assert init_outputs.package_versions()["odd-one"] == "1.5"


def test_installed_packages_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = init_outputs.package_versions()
    assert before["pytest"] == pytest.__version__
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: pytest.fail("it looks again"))
    assert init_outputs.package_versions().items() >= before.items()

"""Versions of software packages, by name (dataset type ``packages``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml
from aggregator.butler.formatting import file_formats

_TAG: Final = "lsst.utils.packages.Packages"
_TAGS: Final = (_TAG, "lsst.base.Packages")
"""How the reference marks the mapping; the last one is of old versions."""


class _Loader(yaml.SafeLoader):
    """Takes the marked mapping for an ordinary one."""


def _mapping(loader: _Loader, node: yaml.Node) -> Any:
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


for _tag in _TAGS:
    _Loader.add_constructor(_tag, _mapping)


class YamlPackages(file_formats.Format):
    """A mapping in YAML, marked so that the reference knows what it is."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the document, names in order."""
        return f"!<{_TAG}>\n{yaml.safe_dump(dict(value))}".encode()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the mapping."""
        return dict(yaml.load(data, Loader=_Loader))


class JsonPackages(file_formats.Format):
    """A mapping in JSON."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the document."""
        return json.dumps(dict(value)).encode()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the mapping."""
        return dict(json.loads(data))

"""Objects as YAML documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from aggregator.butler.formatting import file_formats, plain_values

# Those in C are ten times as fast; they come with most builds of the library.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlFormat(file_formats.Format):
    """YAML of plain values, in the order that they have."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return the document of a value."""
        text: str = yaml.dump(plain_values.plain(value), Dumper=_Dumper, sort_keys=False)
        return text.encode()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return plain values."""
        return yaml.load(data, Loader=_Loader)

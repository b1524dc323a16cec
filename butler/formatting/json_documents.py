"""Objects as JSON documents, task metadata among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aggregator.butler.formatting import file_formats, plain_values


class JsonFormat(file_formats.Format):
    """JSON in UTF-8; numbers that are not finite are written as Python and the reference do."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return what a model makes of itself, or the document of a plain value."""
        if hasattr(value, "model_dump_json"):
            text: str = value.model_dump_json()
            return text.encode()
        return json.dumps(plain_values.plain(value), ensure_ascii=False).encode()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return plain values."""
        return json.loads(data)

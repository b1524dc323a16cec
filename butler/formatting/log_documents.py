"""Logs of quanta (execution-files.md section 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aggregator.butler.formatting import file_formats


class LogFormat(file_formats.Format):
    """A document with the list ``records`` and what is known besides."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return what records of the reference make of themselves, bytes as they are, or a document."""
        if hasattr(value, "to_json_data"):
            text: str = value.to_json_data()
            return text.encode()
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the document; records alone, in a list or one a line, become one, too."""
        try:
            document = json.loads(data)
        except ValueError:
            document = [json.loads(line) for line in data.splitlines() if line.strip()]
        if isinstance(document, dict) and "records" in document:
            return document
        return {"records": document if isinstance(document, list) else [document]}

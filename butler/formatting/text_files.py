"""Files that are text for people, and files whose content is no business of ours."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from aggregator.butler.formatting import file_formats


class TextFormat(file_formats.Format):
    """Text in UTF-8."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return a text's bytes."""
        if not isinstance(value, str):
            raise TypeError(f"it is of type {type(value).__name__}, and has to be a text")
        return value.encode()

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the text."""
        return data.decode()


class ConfigFormat(TextFormat):
    """Configuration of a task: Python statements. They are returned as they are, and not carried out."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return a text's bytes, or those of the text that a configuration makes of itself."""
        return super().encode(value.saveToString() if hasattr(value, "saveToString") else value, provenance)


class BytesFormat(file_formats.Format):
    """Bytes."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return bytes as they are."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"it is of type {type(value).__name__}, and has to be bytes")
        return bytes(value)

    def decode(self, data: bytes, parameters: Mapping[str, Any]) -> Any:
        """Return the bytes."""
        return data


class PlotFormat(BytesFormat):
    """A picture."""

    def encode(self, value: Any, provenance: Mapping[str, Any]) -> bytes:
        """Return a picture's bytes; a figure draws itself."""
        if not hasattr(value, "savefig"):
            return super().encode(value, provenance)
        stream = io.BytesIO()
        value.savefig(stream, format="png")
        return stream.getvalue()

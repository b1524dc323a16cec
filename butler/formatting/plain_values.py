"""Values of plain types from objects that know how to become such: models, dataclasses, named tuples."""

from __future__ import annotations

import dataclasses
from typing import Any


def plain(value: Any) -> Any:
    """Return what a model, dataclass or named tuple holds; others as they are."""
    if hasattr(value, "model_dump") and hasattr(value, "model_dump_json"):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    return value

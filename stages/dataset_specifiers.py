"""Dataset specifiers: a dataset type with ids, as clipboards list them (stages.md section 7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Dataset:
    """A dataset, as those name it who make lists of them. Equal if type and ids are."""

    type: str
    """Dataset type."""

    ids: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values that tell it from others of its type."""

    path: str | None = None
    """Where it is, if somebody has said so."""

    valid: bool = True
    """Whether it is good to be used."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        return self.type == other.type and dict(self.ids) == dict(other.ids)

    def __hash__(self) -> int:
        return hash((self.type, frozenset(self.ids.items())))

    def __str__(self) -> str:
        return "-".join([self.type, *(f"{key}{self.ids[key]}" for key in sorted(self.ids))])

"""Property sets: mappings whose keys may be paths with dots into mappings inside of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any


class PropertySet(MutableMapping[str, Any]):
    """Named values; ``set["a.b"]`` is ``b`` of the property set ``a``.

    Parameters
    ----------
    values
        Values by path. Mappings among them become property sets.
    """

    __slots__ = ("_items",)

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._items: dict[str, Any] = {}
        for path, value in (values or {}).items():
            self[path] = value

    def __getitem__(self, path: str) -> Any:
        name, dot, rest = path.partition(".")
        value = self._items.get(name, self)
        if value is self or (dot and not isinstance(value, PropertySet)):
            raise KeyError(path)
        return value[rest] if dot else value

    def __setitem__(self, path: str, value: Any) -> None:
        name, dot, rest = path.partition(".")
        if isinstance(value, Mapping) and not isinstance(value, PropertySet):
            value = PropertySet(value)
        if not dot:
            self._items[name] = value
            return
        inner = self._items.setdefault(name, PropertySet())
        if not isinstance(inner, PropertySet):
            raise KeyError(f"{name} is a value, and has no {rest}")
        inner[rest] = value

    def __delitem__(self, path: str) -> None:
        above, dot, name = path.rpartition(".")
        if dot:
            del self[above][name]
        else:
            del self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"PropertySet({self._items!r})"

    def copy(self) -> PropertySet:
        """Return a property set with the same values, which can be changed by itself."""
        return PropertySet(
            {name: PropertySet(v) if isinstance(v, PropertySet) else v for name, v in self.items()}
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain dicts."""
        return {name: v.as_dict() if isinstance(v, PropertySet) else v for name, v in self.items()}

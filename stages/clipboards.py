"""Clipboards, which carry objects from stage to stage, and their queues (stages.md section 3)."""

from __future__ import annotations

import collections
from typing import Any

from aggregator.storage import errors


class Clipboard:
    """Objects by key. Those that are shared go from the master to all slices."""

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._shared: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the object of a key, or the default."""
        return self._items.get(key, default)

    def put(self, key: str, item: Any, *, shared: bool = False) -> None:
        """Put an object in place of that of a key, if there is one.

        Parameters
        ----------
        key
            The key.
        item
            The object.
        shared
            Whether it goes to all slices.
        """
        self._items[key] = item
        (self._shared.add if shared else self._shared.discard)(key)

    def remove(self, key: str) -> None:
        """Take the object of a key away, if there is one."""
        self._items.pop(key, None)
        self._shared.discard(key)

    def contains(self, key: str) -> bool:
        """Return whether there is an object of a key."""
        return key in self._items

    def keys(self) -> list[str]:
        """Return all keys, in the order in which they came."""
        return list(self._items)

    def shared_keys(self) -> list[str]:
        """Return the keys of shared objects, in the order in which they came."""
        return [key for key in self._items if key in self._shared]


class Queue:
    """Clipboards, of which the first one in is the first one out."""

    def __init__(self) -> None:
        self._clipboards: collections.deque[Clipboard] = collections.deque()

    def __len__(self) -> int:
        return len(self._clipboards)

    def add(self, clipboard: Clipboard) -> None:
        """Add a clipboard as the last one."""
        self._clipboards.append(clipboard)

    def element(self) -> Clipboard:
        """Return the first clipboard, and leave it where it is: it is there for whoever mends a failure.

        Raises
        ------
        AggregatorError
            If there is none.
        """
        if not self._clipboards:
            raise errors.AggregatorError("There is no clipboard in the queue. Add one first.")
        return self._clipboards[0]

    def take(self) -> Clipboard:
        """Return the first clipboard, and take it out; errors as for `element`."""
        self.element()
        return self._clipboards.popleft()

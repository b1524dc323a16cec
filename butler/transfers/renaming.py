"""New names of collections, by regular expressions (transfer.md section 7.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from aggregator.storage import errors

_SEPARATOR: Final = "="


class Renaming:
    """Rules that give collections of all types other names.

    Parameters
    ----------
    rules
        Each a regular expression for the whole name, ``=``, and what comes in its place, which can have
        groups of it, as ``\\1``. The first rule that fits a name counts; what none fits keeps its name.

    Raises
    ------
    RefusedError
        If one is no such rule.
    """

    def __init__(self, rules: Iterable[str]) -> None:
        self._rules: list[tuple[re.Pattern[str], str]] = []
        self._names: dict[str, str] = {}
        for rule in rules:
            pattern, separator, replacement = rule.partition(_SEPARATOR)
            if not separator or not pattern:
                raise errors.RefusedError(f"{rule!r} is no rule for new names; write PATTERN=NAME.")
            try:
                compiled = re.compile(pattern)
                # A group that the pattern does not have is told before any name.
                compiled.sub(replacement, "")
            except (re.error, IndexError, RecursionError, OverflowError) as exc:
                raise errors.RefusedError(f"{rule!r} is no rule for new names ({exc}).") from exc
            self._rules.append((compiled, replacement))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def name(self, collection: str) -> str:
        """Return the new name of a collection.

        Raises
        ------
        RefusedError
            If it would be empty.
        """
        if collection not in self._names:
            self._names[collection] = self._renamed(collection)
        return self._names[collection]

    def _renamed(self, collection: str) -> str:
        for pattern, replacement in self._rules:
            if match := pattern.fullmatch(collection):
                if name := match.expand(replacement):
                    return name
                raise errors.RefusedError(f"Collection {collection!r} would get an empty name.")
        return collection

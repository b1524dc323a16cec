"""Types of arguments that users give: refused by the name of the argument, before anything is begun."""

import collections.abc
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from aggregator.storage import errors

_NAMES = {bool: "True or False", int: "an integer", float: "a number", str: "text", types.NoneType: "None"}
_PATH = "a path (text, or an object like pathlib.Path)"


def check(owner: Callable[..., object], arguments: Mapping[str, object]) -> None:
    """Refuse arguments that are not of the types with which a function or a dataclass is annotated.

    Parameters
    ----------
    owner
        The function or class.
    arguments
        Values by name; names without annotation are not looked at.

    Raises
    ------
    RefusedError
        If a value is of another type; names the argument.
    """
    for name, kinds in _expected(owner).items():
        if name in arguments and not any(_fits(arguments[name], kind) for kind in kinds):
            words = dict.fromkeys(_describe(kind, kinds) for kind in kinds)
            raise errors.RefusedError(f"{name} must be {' or '.join(words)}, not {_shorten(arguments[name])}")


@functools.cache
def _expected(owner: Callable[..., object]) -> dict[str, tuple[Any, ...]]:
    """Return the alternatives of each annotated argument, without what they are parametrized with."""
    result = {}
    for name, hint in inspect.get_annotations(owner).items():
        if isinstance(hint, str):
            try:
                hint = eval(hint, vars(sys.modules[owner.__module__]))
            except NameError:
                # Imported for type checkers only.
                continue
        origin: Any = typing.get_origin(hint)
        kinds = typing.get_args(hint) if origin in (typing.Union, types.UnionType) else (hint,)
        result[name] = tuple(typing.get_origin(kind) or kind for kind in kinds)
    return result


def _fits(value: object, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is os.PathLike:
        # Those of bytes have no place in texts.
        return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _describe(kind: Any, kinds: tuple[Any, ...]) -> str:
    if os.PathLike in kinds and kind in (str, os.PathLike):
        return _PATH
    if kind is collections.abc.Callable:
        return "a function"
    return _NAMES.get(kind) or str(kind.__name__)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"an object of type {type(value).__name__}"

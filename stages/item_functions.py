"""Plain functions between input items and output items."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from aggregator.storage import errors

Function = Callable[..., Any]
"""Is called with input items by name; returns output items by name, or the only one that is no input."""


def imported(name: str) -> Function:
    """Return a function by its qualified name.

    Raises
    ------
    RefusedError
        If it can't be imported, or is none.
    """
    module, _, attribute = name.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as exc:
        text = f"can't be imported ({type(exc).__name__}: {exc}). Is it in PYTHONPATH?"
        raise errors.RefusedError(f"Function {name}: {text}") from exc
    if not callable(function):
        raise errors.RefusedError(f"Function {name}: is a {type(function).__name__}, and no function.")
    made: Function = function
    return made


def called(function: Function, inputs: Mapping[str, Any], outputs: Collection[str]) -> dict[str, Any]:
    """Return the items that a function makes.

    Parameters
    ----------
    function
        The function.
    inputs
        Input items by name.
    outputs
        Names of output items.

    Returns
    -------
    items
        Output items by name; those that it has not made are left out.

    Raises
    ------
    TypeError
        If it returns something else.
    Exception
        Whatever it raises.
    """
    result = function(**inputs)
    if result is None:
        return {}
    new = [name for name in outputs if name not in inputs]
    is_named = isinstance(result, Mapping) and result.keys() <= set(outputs)
    if len(new) == 1 and not (is_named and new[0] in result):
        return {new[0]: result}
    if is_named:
        return dict(result)
    raise TypeError(
        f"the function has returned a {type(result).__name__}; it has to return a mapping with some of "
        f"{', '.join(outputs)}"
    )

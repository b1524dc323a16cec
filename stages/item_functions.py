"""Plain functions between input items and output items."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from aggregator.stages import policy_items
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors

_log = logging.getLogger(__name__)

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
    made: Function = function
    return made


def shown(function: Function) -> str:
    """Return the qualified name of a function."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{function.__module__}.{name}"


def check(function: Any, inputs: policy_module.Policy) -> None:
    """Refuse what can't be called with the input items of a policy.

    Parameters
    ----------
    function
        The function.
    inputs
        The policy. Items that are not required have to be optional parameters, too.

    Raises
    ------
    RefusedError
        If it is no function, or has other parameters.
    """
    origin, name = inputs.origin_of("parameters.inputItems"), inputs.full_name("parameters.inputItems")
    if not callable(function):
        raise policy_module.complaint(
            origin, name, f"{function!r} is a {type(function).__name__}, and no function."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some that are no Python do not tell.
        return
    names = policy_items.names(inputs, "inputItems")
    required = [
        each for each in names if policy_items.settings(inputs, "inputItems", each).get("required", True)
    ]
    for given in (names, required):
        try:
            signature.bind(**dict.fromkeys(given))
        except TypeError as exc:
            text = (
                f"function {shown(function)} can't be called with items {', '.join(given) or 'none'} ({exc})."
            )
            raise policy_module.complaint(origin, name, text) from exc


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
    new = [name for name in outputs if name not in inputs]
    if result is None:
        if new:
            _log.warning("Function %s has returned nothing: no %s.", shown(function), ", ".join(new))
        return {}
    is_named = isinstance(result, Mapping) and result.keys() <= set(outputs)
    if len(new) == 1 and not (is_named and new[0] in result):
        return {new[0]: result}
    if is_named:
        return dict(result)
    raise TypeError(
        f"function {shown(function)} has returned a {type(result).__name__}; it has to return a mapping with "
        f"some of {', '.join(outputs)}"
    )

"""Additional data: what placeholders of locations and formatters may want to know (stages.md section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aggregator.stages import clipboards, property_sets
from aggregator.stages.policies import policy as policy_module


def collect(
    policy: policy_module.Policy, clipboard: clipboards.Clipboard, predefined: Mapping[str, Any]
) -> property_sets.PropertySet:
    """Return additional data of one run of a stage.

    Parameters
    ----------
    policy
        Policy of the stage: texts ``parameters.additionalData`` are ``key=item`` or ``key=item.rest``.
    clipboard
        Has the items.
    predefined
        Values that count more than items: ``runId``, ``sliceId``, ``universeSize``.

    Raises
    ------
    RefusedError
        If a text has another form, or there is no such item or value in it; names the line.
    """
    result = property_sets.PropertySet()
    for element in policy.elements("parameters.additionalData"):
        name = policy.full_name("parameters.additionalData")
        text = element.value
        key, _, path = (part.strip() for part in str(text).partition("="))
        if not key or not path or str(text).count("=") != 1:
            problem = f"{text!r} has to be 'key=item' or 'key=item.rest'."
            raise policy_module.complaint(element.origin, name, problem)
        try:
            result[key] = _lookup(path, clipboard)
        except LookupError as exc:
            raise policy_module.complaint(element.origin, name, f"{text}: {exc.args[0]}.") from exc
    for key, value in predefined.items():
        result[key] = value
    return result


def _lookup(path: str, clipboard: clipboards.Clipboard) -> Any:
    """Return an item, or a value in it; raises LookupError, which says why, if there is none."""
    name, dot, rest = path.partition(".")
    item = clipboard.get(name)
    if item is None:
        raise LookupError(f"expected data not found on clipboard: {name}")
    if not dot:
        return item
    if not isinstance(item, Mapping):
        raise LookupError(
            f"{name} is a {type(item).__name__}, in which there is no {rest}; it has to be a mapping"
        )
    if rest not in item:
        raise LookupError(f"there is no {rest} in {name}")
    return item[rest]

"""Which values a definition allows: those of a set, and those of a range (stages.md section 2.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

from aggregator.stages.policies import policy as policy_module
from aggregator.stages.policies import problems

_Code: Final = problems.Code
_KEYS: Final = frozenset({"value", "description", "min", "max"})


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The values that are allowed."""

    values: tuple[policy_module.Scalar, ...] = ()
    """All of them; none if there is no set."""

    least: int | float | None = None
    """The least one, if there is a range that begins somewhere."""

    greatest: int | float | None = None
    """The greatest one, if there is a range that ends somewhere."""

    def check(self, value: policy_module.Scalar) -> tuple[problems.Code, str] | None:
        """Return what is wrong with a value, if anything."""
        if self.values and not any(_is_same(value, each) for each in self.values):
            text = f"value is not among defined set: {_shown(value)} (allowed: "
            return _Code.VALUE_DISALLOWED, f"{text}{', '.join(map(_plain, self.values))})"
        if isinstance(value, str) or (self.least is None and self.greatest is None):
            return None
        is_low = self.least is not None and value < self.least
        is_high = self.greatest is not None and value > self.greatest
        if is_low or is_high:
            least, greatest = ("" if each is None else each for each in (self.least, self.greatest))
            return _Code.VALUE_OUT_OF_RANGE, f"value is out of range: {value} (allowed: {least} … {greatest})"
        return None


NONE: Final = Limits()
"""Limits that allow everything."""


def read(definition: policy_module.Policy) -> tuple[Limits, list[problems.Problem]]:
    """Return what a definition allows by its ``allowed``, and what is wrong with that."""
    values: list[policy_module.Scalar] = []
    bounds: dict[str, int | float] = {}
    found = []
    for each in definition.elements("allowed"):
        if isinstance(each.value, policy_module.Policy):
            found += list(_read_policy(each.value, values, bounds))
        elif isinstance(each.value, policy_module.Include):
            text = f"{each.value.path} was not read"
            found.append(
                problems.Problem(each.origin, definition.full_name("allowed"), _Code.NOT_LOADED, text)
            )
        else:
            values.append(each.value)
    return Limits(tuple(values), bounds.get("min"), bounds.get("max")), found


def _read_policy(
    allowed: policy_module.Policy, values: list[policy_module.Scalar], bounds: dict[str, int | float]
) -> Iterator[problems.Problem]:
    for name in allowed.names():
        for each in allowed.elements(name):
            text = ""
            if name not in _KEYS:
                text = "unknown property"
            elif name in ("min", "max"):
                if isinstance(each.value, bool) or not isinstance(each.value, int | float):
                    text = "has to be a number"
                elif name in bounds:
                    text = "there is one already"
                else:
                    bounds[name] = each.value
            elif name == "value":
                if isinstance(each.value, policy_module.Policy | policy_module.Include):
                    text = "can't be a policy"
                else:
                    values.append(each.value)
            if text:
                yield problems.Problem(each.origin, allowed.full_name(name), _Code.BAD_DEFINITION, text)


def _is_same(value: policy_module.Scalar, other: policy_module.Scalar) -> bool:
    return type(value) is type(other) and value == other


def _shown(value: policy_module.Scalar) -> str:
    return f'"{value}"' if isinstance(value, str) else _plain(value)


def _plain(value: policy_module.Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

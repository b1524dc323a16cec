"""What can be wrong with a policy, and how all of that is told at once (stages.md section 2.3)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors


class Code(enum.IntFlag):
    """Kinds of problems, by the numbers that they always had."""

    WRONG_TYPE = 1
    MISSING_REQUIRED = 2
    NOT_AN_ARRAY = 4
    ARRAY_TOO_SHORT = 8
    TOO_MANY_VALUES = 16
    VALUE_DISALLOWED = 32
    VALUE_OUT_OF_RANGE = 64
    UNKNOWN_NAME = 128
    BAD_DEFINITION = 256
    NOT_LOADED = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with one value."""

    origin: policy_module.Origin
    """Where it is."""

    name: str
    """Its full name."""

    code: Code
    """What kind of problem it is."""

    text: str
    """What is wrong."""

    def __str__(self) -> str:
        return f"{self.origin}: {self.name}: {self.text}"


def refuse(problems: Iterable[Problem]) -> None:
    """Refuse a policy because of all that is wrong with it.

    Raises
    ------
    RefusedError
        If there is anything; it has a line for each problem.
    """
    if lines := [str(each) for each in problems]:
        raise errors.RefusedError("\n".join(lines))

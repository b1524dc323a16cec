"""Policy files in PAF, read and written (stages.md sections 2.1 and 2.2)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors

_SPACE: Final = re.compile(r"\s*")
_NAME: Final = re.compile(r"(\w[\w.]*)\s*:\s*")
_DOUBLE: Final = re.compile(r"[+-]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d{1,3})?|\d+[eE][+-]?\d{1,3})", re.ASCII)
_INT: Final = re.compile(r"[+-]?\d+", re.ASCII)
_BOOL: Final = re.compile(r"[tT]rue|[fF]alse")
_BARE: Final = re.compile(r"[^#}]*")
_OUTSIDE: Final = re.compile(r"@(?:urn:|@)", re.IGNORECASE)

INT_LIMITS: Final = (-(2**31), 2**31 - 1)
"""Least and greatest int."""


def parse(text: str, policy: policy_module.Policy) -> None:
    """Read PAF.

    Parameters
    ----------
    text
        Content of a file.
    policy
        An empty policy that gets what is in it; its origin names the file.

    Raises
    ------
    RefusedError
        If it is no PAF; names the line.
    """
    _Reader(text, policy).read()


class _Reader:
    """Reads one text: a line may go on where a policy opens, or closes, in the middle of it."""

    def __init__(self, text: str, policy: policy_module.Policy) -> None:
        self._lines = text.split("\n")
        self._number = 0
        self._line = ""
        self._file = policy.origin.file
        self._open = [policy]

    def read(self) -> None:
        while self._number < len(self._lines):
            self._next_line()
            position = 0
            while (position := self._skip_space(position)) < len(self._line):
                position = self._read_at(position)
        if len(self._open) > 1:
            text = "the file ends before the '}' of this '{'."
            raise policy_module.complaint(self._open[1].origin, self._open[1].name, text)

    def _read_at(self, position: int) -> int:
        """Read from a place where a line may begin; return where the next one is."""
        if self._line[position] == "#":
            return len(self._line)
        if self._line[position] == "}":
            if len(self._open) == 1:
                self._refuse("'}' without a '{' before it.")
            self._open.pop()
            return position + 1
        name = _NAME.match(self._line, position)
        if name is None:
            self._refuse(f"expected 'name: value', found {_excerpt(self._line[position:])}.")
        return self._value(name[1], name.end())

    def _value(self, name: str, position: int) -> int:
        begin = self._line[position : position + 1]
        if not begin or begin in "#}":
            # A name without a value is nothing.
            return position
        if begin == "{":
            self._open.append(self._open[-1].inner(name, self._origin()))
            return position + 1
        for pattern, what, convert in _NUMBERS:
            if pattern.match(self._line, position):
                return self._values(name, position, pattern, what, convert)
        if begin in "\"'":
            return self._quoted(name, position)
        return self._bare(name, position)

    def _values(
        self, name: str, position: int, pattern: re.Pattern[str], what: str, convert: Callable[[str], Any]
    ) -> int:
        """Read values of one kind with spaces between them."""
        while True:
            match = pattern.match(self._line, position)
            if match is None:
                text = _excerpt(self._line[position:])
                self._refuse(f"expected another {what} or the end, found {text}.", name)
            try:
                value = convert(match[0])
            except ValueError as exc:
                self._refuse(f"{_excerpt(match[0])} {exc}.", name)
            self._add(name, value)
            position = self._skip_space(match.end())
            if self._is_end(position):
                return position
            if position == match.end():
                self._refuse(
                    f"{_excerpt(self._line[position:])} follows {what} {_excerpt(match[0])} without a space.",
                    name,
                )

    def _quoted(self, name: str, position: int) -> int:
        while self._line[position : position + 1] in ("'", '"'):
            value, position = self._string(name, position)
            self._add(name, value)
            position = self._skip_space(position)
        if not self._is_end(position):
            text = _excerpt(self._line[position:])
            self._refuse(f"expected another quoted string or the end, found {text}.", name)
        return position

    def _string(self, name: str, position: int) -> tuple[str, int]:
        """Return a quoted string, and where it ends; a line's end in it is a space, with spaces around it."""
        quote, origin = self._line[position], self._origin()
        position += 1
        parts: list[str] = []
        while (end := self._line.find(quote, position)) < 0:
            part = self._line[position:].rstrip()
            parts.append(part.lstrip() if parts else part)
            if self._number == len(self._lines):
                self._refuse("the file ends in this quoted string.", name, origin)
            self._next_line()
            position = 0
        part = self._line[position:end]
        parts.append(part.lstrip() if parts else part)
        return " ".join(parts), end + 1

    def _bare(self, name: str, position: int) -> int:
        match = _BARE.match(self._line, position)
        assert match is not None
        text = match[0].rstrip()
        if _OUTSIDE.match(text):
            self._refuse(f"{text} names a file of an EUPS package; give its path instead.", name)
        is_file = text.startswith("@")
        if is_file and not text[1:].strip():
            self._refuse("'@' without the path of a file.", name)
        self._add(name, policy_module.Include(text[1:].strip()) if is_file else text)
        return match.end()

    def _add(self, name: str, value: policy_module.Value) -> None:
        self._open[-1].add(name, value, self._origin())

    def _is_end(self, position: int) -> bool:
        return self._line[position : position + 1] in ("", "#", "}")

    def _skip_space(self, position: int) -> int:
        match = _SPACE.match(self._line, position)
        assert match is not None
        return match.end()

    def _next_line(self) -> None:
        self._line = self._lines[self._number]
        self._number += 1

    def _origin(self) -> policy_module.Origin:
        return policy_module.Origin(self._file, self._number)

    def _refuse(self, problem: str, name: str = "", origin: policy_module.Origin | None = None) -> NoReturn:
        origin = origin or self._origin()
        if not name:
            raise errors.RefusedError(f"{origin}: {problem}")
        raise policy_module.complaint(origin, self._open[-1].full_name(name), problem)


def _int(text: str) -> int:
    # Python itself refuses to read thousands of digits.
    if len(text.lstrip("+-").lstrip("0")) > 10 or not INT_LIMITS[0] <= int(text) <= INT_LIMITS[1]:
        raise ValueError("has more than 32 bits; quote it, or use YAML")
    return int(text)


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("is too large")
    return value


def _bool(text: str) -> bool:
    return text[0] in "tT"


_NUMBERS: Final = ((_DOUBLE, "double", _double), (_INT, "int", _int), (_BOOL, "bool", _bool))
"""What values are tried for, in this order."""


def _excerpt(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 40 else text[:37] + "...")


def text_of(policy: policy_module.Policy) -> str:
    """Return a policy in PAF: what is read back is equal.

    Raises
    ------
    RefusedError
        If there is a value that PAF can't have.
    """
    return "".join(_lines(policy, ""))


def _lines(policy: policy_module.Policy, indent: str) -> list[str]:
    lines = []
    for name in policy.names():
        scalars = []
        for each in policy.elements(name):
            if isinstance(each.value, policy_module.Policy):
                inner = _lines(each.value, indent + "    ")
                begin = f"{indent}{name}: {{"
                lines += [f"{begin}\n", *inner, f"{indent}}}\n"] if inner else [f"{begin}}}\n"]
            elif isinstance(each.value, policy_module.Include):
                lines.append(f"{indent}{name}: @{each.value.path}\n")
            else:
                scalars.append(_scalar(each, policy.full_name(name)))
        if scalars:
            lines.append(f"{indent}{name}: {' '.join(scalars)}\n")
    return lines


def _scalar(element: policy_module.Element, name: str) -> str:
    value = element.value
    problem = ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        problem = "" if INT_LIMITS[0] <= value <= INT_LIMITS[1] else "an int of more than 32 bits"
        text = str(value)
    elif isinstance(value, float):
        problem = "" if math.isfinite(value) else f"{value}"
        text = repr(value)
    else:
        text = str(value)
        quote = "'" if '"' in text else '"'
        problem = "a string with both kinds of quotes" if quote in text else ""
        problem = problem or ("a string with a line's end" if "\n" in text else "")
        text = f"{quote}{text}{quote}"
    if problem:
        raise policy_module.complaint(element.origin, name, f"PAF has no way to write {problem}; use YAML.")
    return text

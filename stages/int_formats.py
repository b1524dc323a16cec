"""Formats of numbers in locations: the language of Boost.Format, for one value (stages.md section 5)."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

_BASES: Final = {"x": "0x", "X": "0X", "p": "0x", "o": "0"}
"""What stands before numbers of other bases, by type."""

WIDTH_LIMIT: Final = 1000
"""Greatest width and precision."""

_DIRECTIVE: Final = re.compile(
    r"""%(?:
        (?P<simple>[1-9]\d*+)%                     # %1%
      | (?P<bar>\|)?
        (?:(?P<position>[1-9]\d*+)\$)?
        (?P<flags>['=_+\-\ 0\#]*+)
        (?:\*(?!\d)|(?P<width>\d*+))
        (?:\.(?P<precision>\d*+))?
        [lLh]*+
        (?:(?P<type>[aAcCdeEfFgGiopsSuxX])(?(bar)\|)|(?(bar)\||(?!)))
    )""",
    re.VERBOSE | re.ASCII,
)
_C_FLOAT: Final = re.compile(r"%[-+ 0#]*(\d*)(?:\.(\d*))?[efgEG]", re.ASCII)


class FormatError(ValueError):
    """A format can't be used for a value; says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Directive:
    """One part of a format that stands for a value."""

    flags: str
    """Flags, as they are written."""

    width: int
    """Least number of characters."""

    kind: str
    """Letter of the type; "" if there is none."""

    def text(self, value: int) -> str:
        """Return the value as it stands for it."""
        sign, digits = self._parts(value)
        missing = max(0, self.width - len(sign) - len(digits))
        if self._has_zeros():
            return sign + "0" * missing + digits
        if "_" in self.flags and "-" not in self.flags:
            return sign + " " * missing + digits
        before = 0 if "-" in self.flags and "_" not in self.flags else missing
        if "=" in self.flags and "_" not in self.flags:
            before = missing - missing // 2
        return " " * before + sign + digits + " " * (missing - before)

    def _has_zeros(self) -> bool:
        return "0" in self.flags and "-" not in self.flags

    def _parts(self, value: int) -> tuple[str, str]:
        """Return what stands before the place where a number is filled up, and what stands after it."""
        # A space stands for a plus sign, but not beside one, nor before zeros.
        space = " " if " " in self.flags and "+" not in self.flags and not self._has_zeros() else ""
        if self.kind in _BASES:
            # Negative ones are shown as the bits of an int, or of a long one.
            value %= 2**32 if -(2**31) <= value < 2**32 else 2**64
            base = _BASES[self.kind] if "#" in self.flags and value else ""
            if self.kind == "o":
                return space, f"{base}{value:o}"
            return space + base, f"{value:X}" if self.kind == "X" else f"{value:x}"
        if value < 0:
            return "-", str(-value)
        return "+" if "+" in self.flags else space, str(value)


def int_text(form: str, value: int) -> str:
    """Return an int in a format.

    Parameters
    ----------
    form
        The format, from its per cent sign on.
    value
        The int. Types of other values (``%s``, ``%f``, ``%c``) show it as ``%d`` does.

    Raises
    ------
    FormatError
        If the format is ill-formed, or not for exactly one value.
    """
    parts = _parse(form)
    return "".join(part if isinstance(part, str) else part.text(value) for part in parts)


def check(form: str) -> None:
    """Refuse a format that is no format of one value; errors as for `int_text`."""
    _parse(form)


def float_text(form: str, value: float) -> str:
    """Return a float in a format of C: flags, width, precision, and one of ``e f g E G``.

    Raises
    ------
    FormatError
        If the format is another one.
    """
    match = _C_FLOAT.fullmatch(form)
    if match is None:
        raise FormatError("is no format of a float; use '%' alone, or one like '%.3f', '%8.2e', '%g'")
    for number in match.groups(""):
        _limited(number)
    return form % value


def _parse(form: str) -> list[str | _Directive]:
    parts: list[str | _Directive] = []
    n_values = n_positional = position = 0
    while (begin := form.find("%", position)) >= 0:
        parts.append(form[position:begin])
        if form.startswith("%%", begin):
            parts.append("%")
            position = begin + 2
            continue
        match = _DIRECTIVE.match(form, begin)
        if match is None:
            raise FormatError("is ill-formed" + _lone(form, begin))
        number = match["simple"] or match["position"]
        n_values += number is None
        n_positional += number is not None
        if n_values and n_positional:
            raise FormatError("has values with and without numbers")
        if n_values > 1 or number not in (None, "1"):
            raise FormatError("refers to more values than one")
        _limited(match["precision"] or "")
        parts.append(_Directive(match["flags"] or "", _limited(match["width"] or ""), match["type"] or ""))
        position = match.end()
    if not any(isinstance(each, _Directive) for each in parts):
        raise FormatError("does not use the value; '%%' is a mere per cent sign")
    return [*parts, form[position:]]


def _limited(number: str) -> int:
    if len(number) > 9 or int(number or 0) > WIDTH_LIMIT:
        raise FormatError(f"has a width or precision of more than {WIDTH_LIMIT}")
    return int(number or 0)


def _lone(form: str, begin: int) -> str:
    is_lone = "%" in form[begin + 1 :]
    return (
        "; a per cent sign before a placeholder belongs to it, and can't stand for itself" if is_lone else ""
    )

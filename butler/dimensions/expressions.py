"""Expressions that choose data IDs, like ``instrument = 'Cam' AND visit IN (1..9:2)``.

They are the simple part of the middleware's language: comparisons of dimensions, or of attributes of their
records, with literals or with each other, IN with values and ranges, AND, OR, NOT and parentheses.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from aggregator.storage import errors

Literal: TypeAlias = int | float | str | bool
"""A value in an expression."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A dimension, or an attribute of a record."""

    element: str
    """Name of the dimension, or of the element that has the record."""

    attribute: str | None
    """Name of the attribute; nothing for the dimension's own value."""

    def __str__(self) -> str:
        return self.element if self.attribute is None else f"{self.element}.{self.attribute}"


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison."""

    left: Column
    """What is compared."""

    operator: str
    """One of = != < <= > >=."""

    right: Column | Literal
    """With what."""


@dataclasses.dataclass(frozen=True, slots=True)
class Membership:
    """Whether a value is one of some."""

    column: Column
    """The value."""

    values: tuple[Literal, ...]
    """Single values."""

    ranges: tuple[tuple[int, int, int], ...]
    """First and last integers of ranges, and the distance between two neighbours."""


@dataclasses.dataclass(frozen=True, slots=True)
class Negation:
    """The contrary."""

    term: Term
    """Of what."""


@dataclasses.dataclass(frozen=True, slots=True)
class Combination:
    """Several terms that all have to be true, or at least one of them."""

    operator: str
    """AND or OR."""

    terms: tuple[Term, ...]
    """The terms."""


Term: TypeAlias = Comparison | Membership | Negation | Combination
"""An expression, or a part of it."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<range>-?\d+\s*\.\.\s*-?\d+(?:\s*:\s*\d+)?)|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)|(?P<operator>[<>!]=|[=<>(),]))"
)
_COMPARISONS: Final = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""Operators, and what each becomes when its sides are exchanged."""

_WORDS: Final = frozenset({"AND", "OR", "NOT", "IN"})
_DIGITS: Final = 100
"""Characters of an integer that are looked at: Python refuses to convert thousands."""

_DEEPEST: Final = 100
"""Levels of parentheses and NOT that databases can be trusted to take."""

_MOST: Final = 400
"""Conditions and ranges that they can be trusted to take."""

_LOGICAL: Final = {"TRUE": True, "FALSE": False}


def parse(text: str) -> Term | None:
    """Return an expression; nothing for an empty one.

    Raises
    ------
    RefusedError
        If it is none, or one that only the middleware knows.
    """
    if not text.strip():
        return None
    parser = _Parser(text)
    term = parser.any_of()
    parser.expect("end", "")
    return term


def columns(term: Term) -> Iterator[Column]:
    """Iterate over all that an expression is about."""
    match term:
        case Comparison(left=left, right=right):
            yield left
            if isinstance(right, Column):
                yield right
        case Membership(column=column):
            yield column
        case Negation(term=inner):
            yield from columns(inner)
        case Combination(terms=terms):
            for each in terms:
                yield from columns(each)


class _Parser:
    """Takes an expression apart by recursive descent.

    Parameters
    ----------
    text
        The expression.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [*self._split(), ("end", "", len(text))]
        self._place = 0
        self._depth = 0
        self._n_conditions = 0

    def _split(self) -> Iterator[tuple[str, str, int]]:
        place, end = 0, len(self._text.rstrip())
        while place < end:
            token = _TOKEN.match(self._text, place)
            if token is None or token.lastgroup is None:
                raise self._error(place)
            kind, value = token.lastgroup, token[token.lastgroup]
            if kind == "name" and value.upper() in _WORDS:
                kind, value = "word", value.upper()
            yield kind, value, token.start(kind if kind != "word" else "name")
            place = token.end()

    def _error(self, place: int, problem: str = "this is not understood") -> errors.RefusedError:
        return errors.RefusedError(
            f"The data query {self._text!r}: {problem} at character {place + 1}: "
            f"{self._text[place : place + 20].strip() or 'the end'!r}. There may be comparisons (=, !=, <, "
            "<=, >, >=) of "
            "dimensions (visit) and attributes of their records (visit.exposure_time), IN (1, 3, 5..9:2), "
            "AND, "
            "OR, NOT, and parentheses; regions, times, bound values and functions are not supported by this "
            "version."
        )

    def _take(self, kind: str, *values: str) -> str | None:
        """Return the next token and go on, if it is of a kind, and one of some values if any are given."""
        found_kind, value, _ = self._tokens[self._place]
        if found_kind != kind or (values and value not in values):
            return None
        self._place += 1
        return value

    def expect(self, kind: str, *values: str) -> str:
        """Return the next token, which must be of a kind."""
        value = self._take(kind, *values)
        if value is None:
            raise self._error(self._tokens[self._place][2])
        return value

    def any_of(self) -> Term:
        """Return terms of which one has to be true."""
        terms = [self._all_of()]
        while self._take("word", "OR"):
            terms.append(self._all_of())
        return terms[0] if len(terms) == 1 else Combination("OR", tuple(terms))

    def _all_of(self) -> Term:
        terms = [self._one()]
        while self._take("word", "AND"):
            terms.append(self._one())
        return terms[0] if len(terms) == 1 else Combination("AND", tuple(terms))

    def _one(self) -> Term:
        start = self._tokens[self._place][2]
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(start, f"more than {_DEEPEST} levels of NOT and parentheses")
        term = self._simple()
        self._depth -= 1
        return term

    def _count(self, start: int) -> None:
        self._n_conditions += 1
        if self._n_conditions > _MOST:
            raise self._error(start, f"more than {_MOST} conditions and ranges; IN may have more values")

    def _simple(self) -> Term:
        if self._take("word", "NOT"):
            return Negation(self._one())
        if self._take("operator", "("):
            term = self.any_of()
            self.expect("operator", ")")
            return term
        start = self._tokens[self._place][2]
        self._count(start)
        left = self._operand()
        if isinstance(left, Column):
            is_negated = self._take("word", "NOT") is not None
            if is_negated or self._tokens[self._place][1] == "IN":
                self.expect("word", "IN")
                members = self._members(left)
                return Negation(members) if is_negated else members
        operator = self.expect("operator", *_COMPARISONS)
        right = self._operand()
        if isinstance(left, Column):
            return Comparison(left, operator, right)
        if isinstance(right, Column):
            return Comparison(right, _COMPARISONS[operator], left)
        raise self._error(start, "two literals are compared")

    def _operand(self) -> Column | Literal:
        if (name := self._take("name")) is not None:
            if name.upper() in _LOGICAL:
                return _LOGICAL[name.upper()]
            element, _, attribute = name.partition(".")
            return Column(element, attribute or None)
        return self._literal()

    def _literal(self) -> Literal:
        if (text := self._take("text")) is not None:
            return text[1:-1].replace("''", "'")
        start = self._tokens[self._place][2]
        number = self.expect("number")
        return self._integer(start, number) if re.fullmatch(r"-?\d+", number) else float(number)

    def _integer(self, start: int, text: str) -> int:
        if len(text) > _DIGITS or not -(2**63) <= (number := int(text)) < 2**63:
            raise self._error(start, "a number has more than 64 bits")
        return number

    def _members(self, column: Column) -> Membership:
        values: list[Literal] = []
        ranges: list[tuple[int, int, int]] = []
        self.expect("operator", "(")
        while True:
            start = self._tokens[self._place][2]
            if (given := self._take("range")) is not None:
                self._count(start)
                ends, _, stride = given.partition(":")
                first, last = (self._integer(start, end.strip()) for end in ends.split(".."))
                step = self._integer(start, stride.strip() or "1")
                if last < first or step < 1:
                    raise self._error(start, "a range is empty")
                ranges.append((first, last, step))
            else:
                values.append(self._literal())
            if self.expect("operator", ",", ")") == ")":
                return Membership(column, tuple(values), tuple(ranges))

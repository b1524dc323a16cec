"""Contracts between configurations: expressions that are evaluated, without being run as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from aggregator.execution.pipelines import yaml_pipelines
from aggregator.storage import errors

_BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


def check(contract: yaml_pipelines.Contract, configs: Mapping[str, Any]) -> None:
    """Refuse configurations that break a contract.

    Parameters
    ----------
    contract
        The contract.
    configs
        Configurations by label, with a field for each attribute.

    Raises
    ------
    RefusedError
        If it is not fulfilled, or can't be evaluated.
    """
    try:
        is_fulfilled = _value(ast.parse(contract.expression.strip(), mode="eval").body, configs)
    except errors.AggregatorError:
        raise
    except Exception as exc:
        raise errors.RefusedError(f"Contract {contract.expression!r}: {type(exc).__name__}: {exc}.") from exc
    if not is_fulfilled:
        reason = f": {contract.message}" if contract.message else ""
        raise errors.RefusedError(f"Contract {contract.expression!r} is not fulfilled{reason}.")


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            if name not in names:
                raise NameError(f"there is no task {name!r}")
            return names[name]
        case ast.Attribute(value=inner, attr=attribute) if not attribute.startswith("_"):
            return getattr(_value(inner, names), attribute)
        case ast.Subscript(value=inner, slice=key):
            return _value(inner, names)[_value(key, names)]
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_value(item, names) for item in items]
        case ast.BoolOp(op=op, values=terms):
            values = (_value(term, names) for term in terms)
            return all(values) if isinstance(op, ast.And) else any(values)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, names), _value(right, names))
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_value(each, names) for each in (left, *others)]
            return all(
                _COMPARISONS[type(op)](a, b) for op, a, b in zip(ops, sides[:-1], sides[1:], strict=True)
            )
    raise errors.RefusedError(
        f"A contract has {ast.unparse(node)!r}: only comparisons, arithmetic, AND, OR, NOT, and fields of "
        "configurations can be evaluated."
    )

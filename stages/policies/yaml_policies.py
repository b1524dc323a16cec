"""Policy files in YAML and JSON: mappings are policies, lists arrays (stages.md section 2.2)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

import yaml
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors

_INCLUDE: Final = "!include"
_STRING: Final = "tag:yaml.org,2002:str"
_MAPPING: Final = "tag:yaml.org,2002:map"

VALUE_LIMIT: Final = 100_000
"""How many values a file may have; aliases can stand for any number."""

Construct = Callable[[yaml.ScalarNode], Any]


def parse(text: str, policy: policy_module.Policy) -> None:
    """Read YAML; parameters and errors as for `paf.parse`."""
    _Reader(policy, yaml.SafeLoader("").construct_object).read(_compose(text, policy.origin.file))


def parse_json(text: str, policy: policy_module.Policy) -> None:
    """Read JSON; parameters and errors as for `parse`."""
    file = policy.origin.file
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        raise errors.RefusedError(f"{file}:{exc.lineno}: is no JSON ({exc.msg}).") from exc
    except (ValueError, RecursionError) as exc:
        raise errors.RefusedError(f"{file}: is no JSON that can be used ({exc}).") from exc
    # JSON is YAML, but for tabs, which are mere spaces in JSON, and for how its values are written.
    node = _compose(text.replace("\t", " "), file)
    _Reader(policy, lambda value: json.loads(text[value.start_mark.index : value.end_mark.index])).read(node)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 0
        raise errors.RefusedError(f"{policy_module.Origin(file, line)}: is no YAML ({exc.problem}).") from exc
    except yaml.YAMLError as exc:
        raise errors.RefusedError(f"{file}: is no YAML ({' '.join(str(exc).split())}).") from exc
    except RecursionError as exc:
        raise errors.RefusedError(f"{file}: has too many levels.") from exc


class _Reader:
    """Puts the nodes of one file into a policy."""

    def __init__(self, policy: policy_module.Policy, construct: Construct) -> None:
        self._policy = policy
        self._file = policy.origin.file
        self._construct = construct
        self._n_values = 0

    def read(self, node: yaml.Node | None) -> None:
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            raise errors.RefusedError(f"{self._origin(node)}: a policy has to be a mapping at the top.")
        self._mapping(node, self._policy)

    def _mapping(self, node: yaml.MappingNode, policy: policy_module.Policy) -> None:
        names = set()
        for key, value in node.value:
            self._count()
            origin = self._origin(key)
            if key.tag != _STRING:
                raise errors.RefusedError(
                    f"{origin}: {key.value!r} is no name; if it is meant to be, quote it."
                )
            name = self._construct(key)
            if name in names:
                raise policy_module.complaint(origin, policy.full_name(name), "is there twice.")
            names.add(name)
            for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                self._value(each, policy, name)

    def _value(self, node: yaml.Node, policy: policy_module.Policy, name: str) -> None:
        origin = self._origin(node)
        self._count()
        if isinstance(node, yaml.MappingNode):
            if node.tag != _MAPPING:
                raise policy_module.complaint(
                    origin, policy.full_name(name), f"has an unknown tag, {node.tag}."
                )
            self._mapping(node, policy.inner(name, origin))
            return
        if not isinstance(node, yaml.ScalarNode):
            raise policy_module.complaint(origin, policy.full_name(name), "an array can't be in an array.")
        if node.tag == _INCLUDE:
            policy.add(name, policy_module.Include(node.value), origin)
            return
        try:
            value = self._construct(node)
        except (yaml.YAMLError, ValueError) as exc:
            text = f"{node.value[:40]!r} has no value ({' '.join(str(exc).split())[:100]})."
            raise policy_module.complaint(origin, policy.full_name(name), text) from exc
        self._add(value, policy, name, origin)

    def _add(self, value: Any, policy: policy_module.Policy, name: str, origin: policy_module.Origin) -> None:
        if value is None:
            return
        problem = ""
        if not isinstance(value, policy_module.Scalar):
            problem = f"is a {type(value).__name__}; quote it to have it as text."
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            problem = "has more than 64 bits; quote it to have it as text."
        elif isinstance(value, float) and not math.isfinite(value):
            problem = "is no finite number; quote it to have it as text."
        if problem:
            raise policy_module.complaint(origin, policy.full_name(name), problem)
        policy.add(name, value, origin)

    def _count(self) -> None:
        self._n_values += 1
        if self._n_values > VALUE_LIMIT:
            raise errors.RefusedError(f"{self._file}: has more than {VALUE_LIMIT} values.")

    def _origin(self, node: yaml.Node) -> policy_module.Origin:
        return policy_module.Origin(self._file, node.start_mark.line + 1)


def text_of(policy: policy_module.Policy) -> str:
    """Return a policy in YAML: what is read back is equal."""
    text: str = yaml.dump(
        document(policy),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Knows files that are included."""


def _represent_include(dumper: _Dumper, value: policy_module.Include) -> yaml.Node:
    return dumper.represent_scalar(_INCLUDE, value.path)


def _represent_text(dumper: _Dumper, value: str) -> yaml.Node:
    # Without quotes, ends of lines that are no newlines would be read back as something else.
    return dumper.represent_scalar(_STRING, value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(policy_module.Include, _represent_include)
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def document(policy: policy_module.Policy) -> dict[str, Any]:
    """Return a policy as plain dicts and lists; an array of one value is the value."""
    result: dict[str, Any] = {}
    for name in policy.names():
        values = [
            document(each.value) if isinstance(each.value, policy_module.Policy) else each.value
            for each in policy.elements(name)
        ]
        result[name] = values[0] if len(values) == 1 else values
    return result

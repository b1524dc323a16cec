"""Formatters of property sets, policies, values as JSON has them, texts and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from aggregator.butler.formatting import plain_values
from aggregator.stages import property_sets
from aggregator.stages.formatters import item_formatter
from aggregator.stages.policies import policy as policy_module
from aggregator.stages.policies import yaml_policies
from aggregator.stages.storages import content

_Circumstances = item_formatter.Circumstances


def _plain(value: Any, _: _Circumstances) -> Any:
    return plain_values.plain(value)


def _same(value: Any, _: _Circumstances) -> Any:
    return value


def _mapping(value: Any, _: _Circumstances) -> dict[str, Any]:
    if isinstance(value, property_sets.PropertySet):
        return value.as_dict()
    plain = plain_values.plain(value)
    if not isinstance(plain, Mapping):
        raise TypeError(f"it is of type {type(value).__name__}, and has to be a mapping")
    return dict(plain)


def _property_set(value: Any, about: _Circumstances) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"there is a {type(value).__name__} in place of a mapping")
    return (about.python_type or property_sets.PropertySet)(value)


def _row(value: Any, about: _Circumstances) -> content.Rows:
    """Return the row of a mapping; what it lacks the additional data may have."""
    values = property_sets.PropertySet(_mapping(value, about))
    keys = item_formatter.columns(about.settings) or {name: name for name in values}
    row = [values[key] if key in values else about.data.get(key) for key in keys.values()]
    return item_formatter.rows(keys, [row], about)


def _of_row(rows: list[dict[str, Any]], about: _Circumstances) -> Any:
    if len(rows) != 1:
        raise ValueError(f"there are {len(rows)} such rows, and there has to be one")
    keys = item_formatter.columns(about.settings)
    return _property_set({keys.get(name, name): value for name, value in rows[0].items()}, about)


def _header(value: Any, about: _Circumstances) -> Any:
    from aggregator.stages.formatters import fits_headers

    return fits_headers.unit(_mapping(value, about))


def _of_header(units: content.Units, about: _Circumstances) -> Any:
    from aggregator.stages.formatters import fits_headers

    return _property_set(fits_headers.values(units.units[units.number or 0].header), about)


def _to_policy(value: Any, about: _Circumstances) -> policy_module.Policy:
    return _policy(_mapping(value, about))


def _policy(values: Any) -> policy_module.Policy:
    policy = policy_module.Policy()
    yaml_policies.parse_json(json.dumps(values), policy)
    return policy


def _from_policy(value: policy_module.Policy, about: _Circumstances) -> Any:
    return _property_set(yaml_policies.document(value), about)


def _policy_values(value: policy_module.Policy, _: _Circumstances) -> dict[str, Any]:
    return yaml_policies.document(value)


def _policy_of_values(value: Any, _: _Circumstances) -> policy_module.Policy:
    return _policy(value)


def _of_type(kind: type[Any]) -> item_formatter.Conversion:
    def checked(value: Any, _: _Circumstances) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"it is of type {type(value).__name__}, and has to be {kind.__name__}")
        return value

    return item_formatter.Conversion(checked, checked)


Conversion = item_formatter.Conversion
Form = content.Form
ANY_OBJECT: Final = Conversion(_same, _same)
"""An object in a pickle."""

PROPERTY_SET: Final[Mapping[Form, Conversion]] = {
    Form.VALUES: Conversion(_mapping, _property_set),
    Form.ROWS: Conversion(_row, _of_row),
    Form.UNITS: Conversion(_header, _of_header),
    Form.POLICY: Conversion(_to_policy, _from_policy),
    Form.OBJECT: ANY_OBJECT,
}
"""Property sets and dicts; rows are one row, FITS files are a header."""

POLICY: Final[Mapping[Form, Conversion]] = {
    Form.VALUES: Conversion(_policy_values, _policy_of_values),
    Form.POLICY: Conversion(_same, _same),
}
"""Policies."""

JSON: Final[Mapping[Form, Conversion]] = {Form.VALUES: Conversion(_plain, _same), Form.OBJECT: ANY_OBJECT}
"""Whatever is, or makes itself, plain values."""

TEXT: Final[Mapping[Form, Conversion]] = {Form.VALUES: _of_type(str), Form.OBJECT: ANY_OBJECT}
"""Texts."""

BYTES: Final[Mapping[Form, Conversion]] = {Form.VALUES: _of_type(bytes), Form.OBJECT: ANY_OBJECT}
"""Bytes."""

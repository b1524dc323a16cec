"""File templates: the path of a dataset's file, compiled once per template and dataset type.

Implements the grammar of butler-repository.md section 9.2 and the rules of validity of section 9.1.
"""

from __future__ import annotations

import dataclasses
import functools
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aggregator.butler.datastores import paths
from aggregator.butler.dimensions import universe as universe_module
from aggregator.storage import errors

_TYPE: Final = "datasetType"
_SPECIAL: Final = frozenset({"run", "id", _TYPE, "component"})
_UNPREDICTABLE: Final = frozenset({"region", "timespan", "datetime", "hash", "uuid"})
_FORMATTER: Final = string.Formatter()


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The kind of dataset that a template is compiled for."""

    dataset_type: str
    """Name of the dataset type, without component."""

    group: universe_module.Group
    """Its dimensions."""

    component: str | None = None
    """Component that is written on its own, or `None`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """A template that fits a kind of dataset."""

    needed: frozenset[tuple[str, str]]
    """Dimension and attribute of all record attributes that paths depend on."""

    bind: Callable[[paths.Lookup, str], paths.Path]
    """Make the path function, given the records and the extension of the file."""


def compile_template(template: str, target: Target, universe: universe_module.Universe) -> Template:
    """Check a template and prepare it for a kind of dataset.

    Parameters
    ----------
    template
        The template as configured.
    target
        What it is used for.
    universe
        Dimensions of the graph.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        The template is invalid in itself or for these datasets; the message is the end of a sentence
        that begins with the dataset type.
    """
    try:
        fields = _fields(template, target.group, target.component, universe)
        pieces = [_named(field, target.dataset_type) for field in fields]
    except (TypeError, ValueError) as error:
        raise _invalid(template, f"a field can't be formatted ({error})") from error
    needed = frozenset((p.source, p.attribute) for p in pieces if isinstance(p, paths.Field) and p.attribute)
    where = f"Template {template!r} for dataset type {target.dataset_type!r}"

    def bind(records: paths.Lookup, extension: str) -> paths.Path:
        return paths.bind(pieces, len(target.group.keys), records, extension, where)

    return Template(needed, bind)


# Most dataset types have the same one, and the same dimensions as some others.
@functools.lru_cache(maxsize=64)
def _fields(
    template: str,
    group: universe_module.Group,
    component: str | None,
    universe: universe_module.Universe,
) -> Sequence[str | paths.Field]:
    """Return what a template consists of for all dataset types with the same dimensions."""
    parts = _parse(template)
    _check(template, parts, group, component)
    return [piece for part in parts for piece in _resolve(template, part, group, component, universe)]


def _named(piece: str | paths.Field, dataset_type: str) -> str | paths.Field:
    """Return a piece for one dataset type, whose name is text like any other."""
    if isinstance(piece, paths.Field) and piece.source == _TYPE:
        return paths.text(piece.part, dataset_type)
    return piece


@functools.lru_cache(maxsize=64)
def _parse(template: str) -> Sequence[paths.Part]:
    parts = []
    try:
        for literal, names, spec, conversion in _FORMATTER.parse(template):
            if names is None or spec is None:
                parts.append(paths.Part(literal))
                continue
            plain = spec.replace("?", "").replace("/", "")
            part = paths.Part(literal, tuple(names.split("|")), plain, conversion, "?" in spec, "/" in spec)
            parts.append(part)
    except ValueError as error:
        raise _invalid(template, f"it is malformed ({error})") from error
    for name in (n for part in parts for n in part.names):
        if name.count(".") > 1:
            raise _invalid(template, f"field {name!r} has more than one period")
    return parts


def _invalid(template: str, problem: str) -> errors.RefusedError:
    return errors.RefusedError(
        f"file template {template!r} can't be used: {problem}. Correct 'datastore: templates' in butler.yaml."
    )


def _parents(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _considered(part: paths.Part, group: universe_module.Group | None) -> tuple[str, ...]:
    """Return which alternatives count for validity: the first that the dimensions know, or all."""
    for name in part.names if group is not None else ():
        parent = name.partition(".")[0]
        if group is not None and (parent in group.elements or parent in _SPECIAL):
            return (name,)
    return part.names


def _check(
    template: str, parts: Sequence[paths.Part], group: universe_module.Group, component: str | None
) -> None:
    for known in (None, group):
        fields = [(name, part.optional) for part in parts for name in _considered(part, known)]
        _check_form(template, fields)
    _check_component(template, fields, component)
    _check_dimensions(template, fields, group)


def _check_form(template: str, fields: list[tuple[str, bool]]) -> None:
    names = _parents(name for name, _ in fields)
    if "collection" in names:
        raise _invalid(template, "'collection' is no field; 'run' is meant")
    if names.isdisjoint(("run", "id")):
        raise _invalid(template, "neither 'run' nor 'id' is in it")
    if "id" not in names and all(name in _SPECIAL for name, _ in fields):
        raise _invalid(template, "no dimension and no 'id' is in it")
    if "../" in template:
        raise _invalid(template, "it leaves its directory by '../'")
    if "id" in names and "{id}" not in template.rpartition("/")[2]:
        raise _invalid(template, "'id' is in it, but not '{id}' in its file name")


def _check_component(template: str, fields: list[tuple[str, bool]], component: str | None) -> None:
    if component is not None and "component" not in _parents(name for name, _ in fields):
        raise _invalid(
            template, f"'component' is not in it, but component {component!r} is written on its own"
        )
    if component is None and "component" in _parents(name for name, optional in fields if not optional):
        raise _invalid(template, "'component' is in it and not optional, but the dataset is none")


def _check_dimensions(template: str, fields: list[tuple[str, bool]], group: universe_module.Group) -> None:
    def general(names: Iterable[str]) -> set[str]:
        return {"skypix" if name == group.skypix else name for name in names}

    ordinary = [(name, optional) for name, optional in fields if name not in _SPECIAL]
    unknown = general(_parents(n for n, optional in ordinary if not optional)) - general(group.names)
    if unknown:
        raise _invalid(
            template, f"{sorted(unknown)} is in it and not optional, but no dimension of the dataset"
        )
    missing = general(group.required) - general(_parents(name for name, _ in ordinary))
    if missing:
        raise _invalid(
            template, f"{sorted(missing)} is missing, so that different datasets would share a file"
        )


def _resolve(
    template: str,
    part: paths.Part,
    group: universe_module.Group,
    component: str | None,
    universe: universe_module.Universe,
) -> list[str | paths.Field]:
    """Return literal text and field of a part, the field as text if it is the same for all datasets."""
    if not part.names:
        return [part.literal]
    constants = {} if component is None else {"component": component}
    names = {*group.keys, *constants, _TYPE, "run", "id", *(("skypix",) if group.skypix else ())}
    name = next((n for n in part.names if n.partition(".")[0] in names), part.names[0])
    parent, dot, attribute = name.partition(".")
    dimension = group.skypix if parent == "skypix" and group.skypix else parent
    if name in constants:
        return [part.literal, paths.text(part, constants[name])]
    if name == _TYPE:
        return [part.literal, paths.Field((), _TYPE, "", part)]
    if name in ("run", "id"):
        return [part.literal, paths.Field((len(group.keys) + ("run", "id").index(name),), name, "", part)]
    if dimension in group.keys:
        if not dot:
            return [part.literal, paths.Field((group.keys.index(dimension),), "value", "", part)]
        field = _attribute(template, part, dimension, attribute, group, universe)
        if field is not None:
            return [part.literal, field]
    elif parent in names and dot:
        raise _invalid(template, f"{parent!r} has no attributes such as {attribute!r}")
    if not part.optional:
        raise _invalid(template, f"{name!r} is neither optional nor defined for the dataset")
    nothing = paths.text(dataclasses.replace(part, spec=""), "") if part.conversion else ""
    return [part.literal if "/" in part.literal else "", nothing]


def _attribute(
    template: str,
    part: paths.Part,
    dimension: str,
    attribute: str,
    group: universe_module.Group,
    universe: universe_module.Universe,
) -> paths.Field | None:
    """Return the field of a record's attribute; `None` if the record has no such attribute."""
    column = next((c for c in universe.element(dimension).columns if c.name == attribute), None)
    if column is None:
        return None
    if column.type in _UNPREDICTABLE:
        raise _invalid(template, f"the text of {dimension}.{attribute}, a {column.type}, can't be predicted")
    same = dimension if attribute == universe.primary_key(dimension) else attribute
    if same == dimension or same in universe.required(dimension) or same in universe.implied(dimension):
        # The data ID has it already: the record's columns named like dimensions are their values.
        return paths.Field((group.keys.index(same),), "value", "", part)
    index = tuple(group.keys.index(name) for name in universe.required(dimension))
    return paths.Field(index, dimension, attribute, part)

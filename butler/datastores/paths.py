"""Paths of files: the function from a data ID to a path that a file template stands for.

Implements the expansion of butler-repository.md section 9.2, once `templates` has found out what each field
of the template refers to.
"""

from __future__ import annotations

import dataclasses
import operator
import os.path
import re
import string
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aggregator.storage import errors

Values = tuple[int | str, ...]
"""Values of a full data ID, in the order of its group's keys."""

Lookup = Callable[[str, Values], Mapping[str, Any] | None]
"""Attributes of a record, from dimension and values of its required dimensions; `None` if there is none."""

Path = Callable[[Values, str, str], str]
"""Path of a dataset's file relative to the datastore root, from data ID values, run and dataset id."""

_FORBIDDEN: Final = str.maketrans(dict.fromkeys(' <>:"\\|?*', "_"))
_ESCAPE: Final = re.compile("%[A-F0-9]{2}")
_DOUBLED: Final = frozenset({".gz", ".bz2", ".xz", ".fz"})
_MEMO: Final = 65536
"""Most texts remembered per field: about 8 MB."""

_FORMATTER: Final = string.Formatter()


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A replacement field with the literal text before it, or (without names) literal text alone."""

    literal: str
    """Text before the field."""

    names: tuple[str, ...] = ()
    """Alternative field names, the preferred first."""

    spec: str = ""
    """Format specification without the extensions of the grammar."""

    conversion: str | None = None
    """Letter of the conversion, if there is one."""

    optional: bool = False
    """Whether the field may be missing."""

    keeps_slashes: bool = False
    """Whether slashes in the value stay and make directories."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field whose text depends on the dataset."""

    index: tuple[int, ...]
    """Places of the values that the text depends on, among the data ID values, run and id."""

    source: str
    """``value``, ``run``, ``id``, ``datasetType``, or the dimension whose record has it as an attribute."""

    attribute: str
    """Name of the record's attribute, or ""."""

    part: Part
    """How to format the value."""


class _Texts(dict[Any, str]):
    """Texts of one field by value, computed when first asked for."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[Any], str]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, value: Any) -> str:
        if len(self) >= _MEMO:
            self.clear()
        text = self[value] = self.make(value)
        return text


def text(part: Part, value: Any) -> str:
    """Return a value as it stands in the path, before the file name's own replacements."""
    if isinstance(value, str):
        value = value.translate(_FORBIDDEN)
        if not part.keeps_slashes:
            value = value.replace("/", "_")
    if part.conversion:
        value = _FORMATTER.convert_field(value, part.conversion)
    return format(value, part.spec)


def directory_of_run(run: str) -> str:
    """Return the directory below the datastore root that templates which begin with ``{run:/}`` lead to.

    Parameters
    ----------
    run
        The run.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        No file of the run can have a path.
    """
    where = f"run {run!r}"
    directory, slash, _ = _finisher(False, "", where)(f"{run.translate(_FORBIDDEN)}/file").rpartition("/")
    if not slash:
        raise errors.RefusedError(f"{where}: its files would lie in the root of the datastore.")
    return directory


def _file_name(text: str) -> str:
    """Return text as it may stand in a file name: periods would look like an extension."""
    return text.replace(".", "_").replace("#", "HASH")


def bind(pieces: Sequence[str | Field], n_keys: int, records: Lookup, extension: str, where: str) -> Path:
    """Make the path function; it raises `aggregator.storage.errors.AggregatorError` if a path can't be made.

    A run or a data ID with ``..`` in it would lead out of the datastore, which is refused.

    Parameters
    ----------
    pieces
        Literal text and fields in order.
    n_keys
        Number of data ID values.
    records
        Lookup of dimension records.
    extension
        Extension of the file, with the dot.
    where
        Template and dataset type, to begin messages with.
    """
    # Where the directory ends is known beforehand unless a field after the last literal slash keeps its
    # slashes; then the replacements for file names are part of each field's remembered text.
    cut = max((i for i, p in enumerate(pieces) if isinstance(p, str) and "/" in p), default=-1)
    late = any(isinstance(p, Field) and p.part.keeps_slashes for p in pieces[cut + 1 :])
    pattern, fields = "", []
    for i, piece in enumerate(pieces):
        in_name = i > cut and not late
        if isinstance(piece, Field):
            pattern += "%s"
            fields.append((_Texts(_maker(piece, in_name, records, where)).__getitem__, _getter(piece.index)))
            continue
        head, slash, tail = piece.rpartition("/")
        literal = piece if late or i < cut else head + slash + _file_name(tail)
        pattern += literal.replace("%", "%%")
    finish = _finisher(late, extension, where)

    def path(values: Values, run: str, dataset_id: str) -> str:
        if len(values) != n_keys:
            raise errors.AggregatorError(
                f"{where}: the data ID has {len(values)} values instead of {n_keys}."
            )
        everything = (*values, run, dataset_id)
        return finish(pattern % tuple([show(get(everything)) for show, get in fields]))

    return path


def _getter(index: tuple[int, ...]) -> Callable[[Any], Any]:
    return operator.itemgetter(*index)


def _maker(field: Field, in_name: bool, records: Lookup, where: str) -> Callable[[Any], str]:
    single = len(field.index) == 1

    def make(key: Any) -> str:
        value = key
        if field.attribute:
            key = (key,) if single else key
            record = records(field.source, key)
            if record is None:
                raise errors.AggregatorError(
                    f"{where}: the graph has no dimension record of {field.source} {key}, but "
                    f"{field.attribute!r} of it is part of the path; the graph is incomplete."
                )
            value = record[field.attribute]
        elif field.source == "id" and (field.part.spec or field.part.conversion):
            value = uuid.UUID(key)
        try:
            result = text(field.part, value)
        except (TypeError, ValueError) as error:
            raise errors.AggregatorError(f"{where}: {value!r} does not suit its field ({error}).") from error
        return _file_name(result) if in_name else result

    return make


def _finisher(late: bool, extension: str, where: str) -> Callable[[str], str]:
    normpath = os.path.normpath

    def finish(text: str) -> str:
        if late:
            head, slash, tail = text.rpartition("/")
            text = head + slash + _file_name(tail)
        if not text or "//" in text or "/." in text or text[0] in "./" or text[-1] == "/":
            # Most are as they should be, and to find out takes a tenth of this.
            text = normpath(text).lstrip("/")
        if "%" in text or "$" in text or text[:1] == "~":
            text = _unquoted(text, where)
        if text[:1] == "/" or text == ".." or text.startswith("../"):
            raise errors.RefusedError(f"{where}: {text!r} would be outside of the datastore.")
        name = text[text.rfind("/") + 1 :]
        if "." in name or "#" in name:
            text = _stem(text, where)
        return text + extension

    return finish


def _unquoted(text: str, where: str) -> str:
    """Treat what looks like a quoted URI as the reference does: it is unquoted.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        The reference would cut the path, or the result depends on environment variables.
    """
    if _ESCAPE.search(text):
        if "#" in text or ";" in text or not text.isprintable():
            raise errors.RefusedError(f"{where}: {text!r} is ambiguous, it looks like a quoted URI.")
        text = os.path.normpath(urllib.parse.unquote(text))
    if os.path.expandvars(os.path.expanduser(text)) != text:
        raise errors.RefusedError(f"{where}: {text!r} depends on environment variables.")
    return text


def _stem(text: str, where: str) -> str:
    """Cut the extension off a directory that stands for the file name, since that came out empty.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        The reference would cut the path at a "#".
    """
    directory, slash, name = text.rpartition("/")
    if "#" in name:
        raise errors.RefusedError(f"{where}: {text!r} is ambiguous, it looks like a URI with a fragment.")
    stem, *extensions = name.split(".")
    if len(extensions) > 1 and "." + extensions[-1] in _DOUBLED:
        extensions.pop()
    return directory + slash + ".".join([stem, *extensions[:-1]])

"""The format of a dataset, given its storage class and the extension of its file."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Final

from aggregator.butler.formatting import (
    file_formats,
    json_documents,
    log_documents,
    package_versions,
    pickles,
    text_files,
    yaml_documents,
)
from aggregator.storage import errors

GROUP: Final = "aggregator.formats"
"""Entry points of other distributions; each is a `file_formats.Addition`."""

_ARRAYS: Final = frozenset({"NumpyArray", "Thumbnail"})

_BYTES: Final = text_files.BytesFormat()

_BY_STORAGE_CLASS: Final[dict[tuple[str, str], file_formats.Format]] = {
    ("ButlerLogRecords", ".json"): log_documents.LogFormat(),
    ("ButlerLogRecords", ".log"): log_documents.LogFormat(),
    ("Config", ".py"): text_files.ConfigFormat(),
    ("Packages", ".yaml"): package_versions.YamlPackages(),
    ("Packages", ".json"): package_versions.JsonPackages(),
    ("Plot", ".png"): text_files.PlotFormat(),
    **{(name, ".pickle"): pickles.ArrayFormat() for name in _ARRAYS},
}

_BY_EXTENSION: Final[dict[str, file_formats.Format]] = {
    ".json": json_documents.JsonFormat(),
    ".log": text_files.TextFormat(),
    ".pickle": pickles.RefusedPickles(),
    ".pkl": pickles.RefusedPickles(),
    ".py": text_files.TextFormat(),
    ".reg": text_files.TextFormat(),
    ".txt": text_files.TextFormat(),
    ".yaml": yaml_documents.YamlFormat(),
}

_IN_LIBRARIES: Final = frozenset({".ecsv", ".fits", ".parq"})
"""Extensions of formats that need a library which need not be installed."""


def choose(storage_class: str, extension: str, *, unpickle: bool = False) -> file_formats.Format:
    """Return the format of a dataset's file.

    Parameters
    ----------
    storage_class
        Storage class of what the file holds.
    extension
        Extension of the file's name, with the dot.
    unpickle
        Whether pickles of any objects may be read and written.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        If a library is missing.
    """
    for addition in additions().values():
        if addition.extension == extension and storage_class in addition.storage_classes:
            return addition.format
    file_format = _BY_STORAGE_CLASS.get((storage_class, extension)) or _BY_EXTENSION.get(extension)
    if unpickle and isinstance(file_format, pickles.RefusedPickles):
        return pickles.PickleFormat()
    if file_format is None and extension in _IN_LIBRARIES:
        return _from_library(storage_class, extension)
    return file_format or _BYTES


@functools.cache
def _from_library(storage_class: str, extension: str) -> file_formats.Format:
    try:
        if extension == ".parq":
            from aggregator.butler.formatting import parquet_files

            return parquet_files.ParquetFormat()
        from aggregator.butler.formatting import astropy_files
    except ImportError as error:
        raise errors.RefusedError(
            f"Files with the extension {extension} need {error.name}; install this package with its extra "
            "'formats'."
        ) from error
    if extension == ".fits":
        return astropy_files.FitsFormat()
    return astropy_files.ECSV_QUANTITIES if storage_class == "AstropyQTable" else astropy_files.ECSV_TABLE


@functools.cache
def additions() -> dict[str, file_formats.Addition]:
    """Return the formats that other distributions add, by formatter class."""
    formats = [point.load() for point in importlib.metadata.entry_points(group=GROUP)]
    return {addition.formatter: addition for addition in formats}

"""Repository index: aliases that stand for the locations of repositories (butler-repository.md section 1)."""

from __future__ import annotations

import os
from typing import Final

import yaml
from aggregator.butler.configuration import yaml_files
from aggregator.storage import errors, local_files, opening, uris

_INDEX_FILE: Final = "DAF_BUTLER_REPOSITORY_INDEX"
_INDEX_TEXT: Final = "DAF_BUTLER_REPOSITORIES"


def find(location: str) -> str:
    """Return the absolute path, or URI, of a repository's configuration file.

    Parameters
    ----------
    location
        An alias of the index, else a path or URI of the file or its directory.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        There is no such repository, or it can't be reached.
    """
    index, problem = _read()
    target = index.get(location, location)
    path = _configuration(target)
    if opening.exists(path):
        return path
    aliases = (
        f"the repository index has {sorted(index)}" if index else f"there is no repository index{problem}"
    )
    raise errors.RefusedError(
        f"{path}: there is no Butler repository ({location!r} was given, and {aliases}). "
        "Give the directory with butler.yaml, that file, or an alias of the index."
    )


def _configuration(target: str) -> str:
    """Return where the configuration of a repository is, given that or the directory."""
    if uris.is_remote(target):
        is_file = target.endswith((".yaml", ".json"))
        return uris.normal(target if is_file else f"{target.rstrip('/')}/{yaml_files.REPOSITORY}")
    path = os.path.abspath(yaml_files.local_path(target, "Butler repository"))
    return os.path.join(path, yaml_files.REPOSITORY) if local_files.is_directory(path) else path


def _read() -> tuple[dict[str, str], str]:
    """Return locations by alias, and why there are none; a broken index does not matter to a path."""
    file, text = os.environ.get(_INDEX_FILE), os.environ.get(_INDEX_TEXT)
    if not file and not text:
        return {}, ""
    if file and text:
        return {}, f": both {_INDEX_FILE} and {_INDEX_TEXT} are set"
    try:
        index = (
            yaml.safe_load(text) if text else yaml_files.read(yaml_files.local_path(str(file), _INDEX_FILE))
        )
    except (errors.RefusedError, yaml.YAMLError) as error:
        return {}, f": {error}"
    if not isinstance(index, dict) or not all(isinstance(x, str) for pair in index.items() for x in pair):
        return {}, ": it is not a mapping of names to locations"
    return index, ""

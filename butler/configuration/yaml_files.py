"""Configuration files: YAML or JSON with includes, and how one is merged over another.

Implements the files behind butler-repository.md section 1.
"""

from __future__ import annotations

import json
import os.path
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

import yaml
from aggregator.storage import errors, local_files, opening

REPOSITORY: Final = "butler.yaml"
"""Name of a repository's configuration file in its directory."""

INCLUDES: Final = "includeConfigs"
"""Key of the files that are merged under the mapping it stands in."""

_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def local_path(location: str, what: str) -> str:
    """Return the local path of a location that may be a URI.

    Parameters
    ----------
    location
        A path, in which ``~`` and environment variables are expanded unless it exists as it is, or a
        ``file:`` URI.
    what
        What is there, to begin a message with.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        The location is remote.
    """
    if location.startswith("file:"):
        return local_files.named(urllib.parse.unquote(urllib.parse.urlsplit(location).path))
    scheme, separator, _ = location.partition("://")
    if separator:
        raise errors.RefusedError(
            f"{what}: {location} is a {scheme}:// location, which is not supported by this version; "
            "only local files and file:// are."
        )
    # What is there is meant, whatever it is called.
    is_there = local_files.is_taken(location)
    return local_files.named(location if is_there else os.path.expandvars(os.path.expanduser(location)))


def read(path: str) -> dict[str, Any]:
    """Read a configuration file and everything that it includes.

    Parameters
    ----------
    path
        A ``.yaml`` or ``.json`` file. Only in YAML ``!include NAME`` is replaced by the contents of
        another file, with a path relative to this one.

    Raises
    ------
    aggregator.storage.errors.RefusedError
        The file is missing, unreadable, malformed, or not a mapping.
    """
    content = _parse(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise errors.RefusedError(f"{path}: this is not a configuration; it has to be a mapping at the top.")
    return _with_includes(content, path)


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Change a configuration to what it is with another one over it; mappings merge, all else replaces.

    Parameters
    ----------
    base
        Configuration to be changed, and returned.
    over
        Configuration that has priority; it is not changed, nor shared with the result.
    """
    for key, value in over.items():
        if isinstance(value, Mapping):
            inner = base.get(key)
            base[key] = merge(inner if isinstance(inner, dict) else {}, value)
        else:
            base[key] = value
    return base


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the part of a configuration file that is about one thing.

    Parameters
    ----------
    config
        Contents of a file that has the part under its name, even twice (the name again inside), or
        is the part.
    name
        Name of the part, e.g. ``datastore``.
    """
    inner = config.get(name)
    if isinstance(inner, Mapping) and isinstance(inner.get(name), Mapping):
        inner = inner[name]
    return inner if isinstance(inner, Mapping) else config


def _parse(path: str) -> Any:
    if not path.endswith((".yaml", ".json")):
        raise errors.RefusedError(f"{path}: a configuration file has to be named *.yaml or *.json.")
    try:
        content = opening.read(path)
        if path.endswith(".json"):
            return json.loads(content)
        return _load(content, path)
    except (OSError, local_files.UnusableError) as error:
        raise errors.RefusedError(
            f"{path}: the configuration can't be read ({local_files.reason(error)}). Check path and "
            "permissions."
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise errors.RefusedError(f"{path}: the configuration is malformed: {error}") from error


def _load(content: bytes, path: str) -> Any:
    loader = _Loader(content)
    loader.directory = os.path.dirname(path)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(_BaseLoader):  # type: ignore[misc]
    """YAML loader that knows the directory of its file."""

    directory: str

    def include(self, node: yaml.Node) -> Any:
        """Return the contents of the file or files that a node names."""
        if isinstance(node, yaml.ScalarNode):
            return self._file(self.construct_scalar(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._file(name) for name in self.construct_sequence(node)]
        return {key: self._file(name) for key, name in self.construct_mapping(node).items()}

    def _file(self, name: str) -> Any:
        path = os.path.join(self.directory, local_path(name, f"!include in {self.directory}"))
        try:
            return _load(opening.read(path), path)
        except (OSError, local_files.UnusableError) as error:
            raise errors.RefusedError(
                f"{path}: the file named by !include can't be read ({local_files.reason(error)})."
            ) from error


_Loader.add_constructor("!include", _Loader.include)


def _with_includes(content: dict[str, Any], path: str) -> dict[str, Any]:
    """Put the files that ``includeConfigs`` names under the mapping it stands in, the outermost first."""
    names = content.pop(INCLUDES, None)
    if names is not None:
        merged: dict[str, Any] = {}
        for name in names if isinstance(names, list) else [names]:
            merge(merged, read(_find(name, path)))
        content = merge(merged, content)
    for key, value in content.items():
        if isinstance(value, dict):
            content[key] = _with_includes(value, path)
    return content


def _find(name: str, path: str) -> str:
    """Look a file up where the program runs, then beside the including file."""
    local = local_path(name, f"{INCLUDES} in {path}")
    for directory in ("", os.path.dirname(path)):
        if opening.exists(candidate := os.path.join(directory, local)):
            return candidate
    raise errors.RefusedError(f"{path}: {INCLUDES} names {name}, which does not exist.")

"""Make the table of default configuration from an installed reference package.

Run as ``python -m aggregator.butler.configuration.generate_defaults DIRECTORY``, which holds the package's
configuration files; it writes ``defaults.json`` beside this module.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, Final

from aggregator.butler.configuration import yaml_files

_DATASTORE_KEYS: Final = ("cls", "root", "records", "templates", "formatters", "composites")
_STORAGE_CLASS_KEYS: Final = ("inheritsFrom", "components")


def make_table(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what matters here of the package's defaults, by file.

    Parameters
    ----------
    directory
        Directory ``configs`` of the package.
    """

    def part(file: str, name: str) -> Mapping[str, Any]:
        return yaml_files.section(yaml_files.read(os.path.join(directory, file)), name)

    files = part("datastores/fileDatastore.yaml", "datastore")
    datastore = {key: files[key] for key in _DATASTORE_KEYS}
    datastore["formatters"] = {k: v for k, v in files["formatters"].items() if k != "write_recipes"}
    registry = part("registry.yaml", "registry")
    return {
        "datastore.yaml": dict(part("datastore.yaml", "datastore")),
        "datastores/composites.yaml": dict(part("datastores/composites.yaml", "composites")),
        "datastores/fileDatastore.yaml": datastore,
        "registry.yaml": {key: registry[key] for key in ("db", "managers")},
        "storageClasses.yaml": {
            name: {key: entry[key] for key in _STORAGE_CLASS_KEYS if key in entry}
            for name, entry in part("storageClasses.yaml", "storageClasses").items()
        },
    }


def main(arguments: list[str]) -> None:
    """Write the table.

    Parameters
    ----------
    arguments
        The directory of the package's configuration files, alone.
    """
    (directory,) = arguments
    target = pathlib.Path(__file__).with_name("defaults.json")
    target.write_text(json.dumps(make_table(directory), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

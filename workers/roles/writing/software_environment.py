"""The software that this process runs in (quantum-graph-format.md section 7.5)."""

import glob
import importlib.metadata
import json
import os
import re
import sys

_OWN_PREFIX = re.compile(r"lsst[-.]")


def _distribution_name(name: str) -> str:
    """Return the name under which a distribution is listed."""
    if _OWN_PREFIX.match(name):
        return re.sub(r"[-.]", "_", name[5:])
    return name


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Return what the head of a distribution's metadata says; parsing all of it takes ten times as long."""
    text = distribution.read_text("METADATA") or ""
    head = text.partition("\n\n")[0]
    name, version = (re.search(rf"^{key}: *(\S+)\s*$", head, re.MULTILINE) for key in ("Name", "Version"))
    if name is None or version is None:
        return distribution.name, distribution.version
    return name[1], version[1]


def packages() -> dict[str, str]:
    """Return the version of each installed distribution and conda package, and of Python."""
    versions: dict[str, str] = {"python": sys.version}
    for distribution in importlib.metadata.distributions():
        name, version = _name_and_version(distribution)
        versions.setdefault(name, version)
    result = {_distribution_name(name): version for name, version in versions.items()}
    result.update(_conda_packages())
    return result


def _conda_packages() -> dict[str, str]:
    prefix = os.environ.get("CONDA_PREFIX")
    if prefix is None:
        return {}
    result: dict[str, str] = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(prefix), "conda-meta", "*.json"))):
        try:
            with open(path, encoding="utf-8") as stream:
                document = json.load(stream)
            result[document["name"]] = document["version"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    environment = re.search(r"/envs/(.*?)/bin/", sys.executable)
    if environment:
        result["conda_env"] = environment[1]
    return result

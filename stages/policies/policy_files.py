"""Policy files of all formats: which one a file has, reading with what it includes, and writing."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable
from typing import Final

from aggregator.stages.policies import paf, yaml_policies
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors, local_files, opening, uris

Parser = Callable[[str, policy_module.Policy], None]

_PARSERS: Final[dict[str, Parser]] = {
    "paf": paf.parse,
    "policy": paf.parse,
    "yaml": yaml_policies.parse,
    "yml": yaml_policies.parse,
    "json": yaml_policies.parse_json,
}
_HEADER: Final = re.compile(r"#\s*<\?cfg\s+(\w+)\s+(policy|dictionary)\s*\?>", re.IGNORECASE)

FILE_LIMIT: Final = 1000
"""How many files one policy may be in."""


def read(location: str) -> policy_module.Policy:
    """Read a policy file, and all that it includes.

    Parameters
    ----------
    location
        Path or URI. The first line may tell the format (``#<?cfg paf policy ?>``), else the ending does:
        ``.paf`` or ``.policy``, ``.yaml`` or ``.yml``, ``.json``.

    Raises
    ------
    RefusedError
        If a file is missing or malformed, or includes itself.
    AggregatorError
        If it can't be read at the moment.
    """
    policy = policy_module.Policy(policy_module.Origin(location))
    _Files().read(location, policy)
    return policy


class _Files:
    """Reads files that include each other."""

    def __init__(self) -> None:
        self._n_files = 0
        self._open: list[str] = []

    def read(self, location: str, policy: policy_module.Policy) -> None:
        """Read a file into an empty policy."""
        self._n_files += 1
        if self._n_files > FILE_LIMIT:
            raise errors.RefusedError(f"{location}: includes more than {FILE_LIMIT} files.")
        place = uris.absolute(location)
        if place in self._open:
            raise errors.RefusedError(f"{location}: includes itself, by way of {self._open[-1]}.")
        text = _content(location)
        self._open.append(place)
        _parser(location, text)(text, policy)
        policy.load(lambda include, origin, inner: self._include(location, include, origin, inner))
        self._open.pop()

    def _include(
        self,
        above: str,
        include: policy_module.Include,
        origin: policy_module.Origin,
        policy: policy_module.Policy,
    ) -> None:
        location = neighbour(above, include.path)
        policy.origin = policy_module.Origin(location)
        try:
            self.read(location, policy)
        except errors.RefusedError as exc:
            raise errors.RefusedError(f"{exc} (Included by {origin}.)") from exc


def neighbour(location: str, path: str) -> str:
    """Return the location of a file that another one names by a path relative to itself."""
    if uris.scheme(path):
        return path
    if uris.is_remote(location):
        return f"{location.rpartition('/')[0]}/{path}"
    return os.path.join(os.path.dirname(location), path)


def _content(location: str) -> str:
    try:
        return opening.read(location).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise errors.RefusedError(f"{location}: is no UTF-8 text (byte {exc.start}).") from exc
    except (OSError, local_files.UnusableError) as exc:
        text = f"{location}: the policy can't be read ({local_files.reason(exc)}). Check the path."
        raise errors.RefusedError(text) from exc
    except ValueError as exc:
        # A path with a null byte.
        raise errors.RefusedError(f"{location!r}: is no path of a policy.") from exc


def _parser(location: str, text: str) -> Parser:
    header = _HEADER.match(text)
    name = header[1].lower() if header else os.path.splitext(location)[1].removeprefix(".").lower()
    if name not in _PARSERS:
        endings = ", ".join(f".{each}" for each in _PARSERS)
        raise errors.RefusedError(f"{location}: is no policy file; the ending has to be one of {endings}.")
    return _PARSERS[name]


def text_of(policy: policy_module.Policy, location: str) -> str:
    """Return a policy as a file has it: what is read back is equal.

    Parameters
    ----------
    policy
        The policy.
    location
        Path or URI of the file, whose ending tells the format: PAF or YAML.

    Raises
    ------
    RefusedError
        If it is neither, or PAF can't have a value.
    """
    parser = _parser(location, "")
    if parser is yaml_policies.parse_json:
        raise errors.RefusedError(f"{location}: policies are written in PAF and YAML. Choose another ending.")
    return paf.text_of(policy) if parser is paf.parse else yaml_policies.text_of(policy)

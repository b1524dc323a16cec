"""Options that say which quanta of a graph are meant."""

import uuid
from collections.abc import Callable, Iterable
from typing import Any

import click

from aggregator.command_line import options
from aggregator.storage import errors, local_files

_OPTIONS = (
    click.option(
        "--quantum", "quanta", multiple=True, metavar="ID[,ID...]", help="Ids of quanta; may be repeated."
    ),
    click.option(
        "--quantum-file", type=options.PATH, metavar="FILE", help="File with ids, one a line or more."
    ),
    click.option(
        "--line", type=click.IntRange(min=1), help="Take only this line of the file; 1 is the first."
    ),
)


def quanta(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name quanta."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def ids(given: Iterable[str], path: str | None, line: int | None) -> set[uuid.UUID]:
    """Return the ids that were given.

    Parameters
    ----------
    given
        Ids, some with commas between them.
    path
        File with more of them.
    line
        The only line of it that counts.

    Raises
    ------
    UsageError
        If a line is given without a file.
    RefusedError
        If the file can't be read, or a text is no id.
    """
    texts = [text for each in given for text in each.split(",")]
    if path is not None:
        texts += _read(path, line).replace(",", " ").split()
    elif line is not None:
        raise click.UsageError("--line is of a file that is given with --quantum-file.")
    return {_parse(text) for text in texts if text}


def _read(path: str, line: int | None) -> str:
    try:
        content = local_files.read(path).decode()
    except (OSError, local_files.UnusableError, UnicodeDecodeError) as exc:
        raise errors.RefusedError(f"{path}: can't read the ids of quanta ({exc}).") from exc
    if line is None:
        return content
    lines = content.splitlines()
    if line > len(lines):
        raise errors.RefusedError(f"{path}: has no line {line}, but {len(lines)}.")
    return lines[line - 1]


def _parse(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as exc:
        raise errors.RefusedError(f"{text!r} is no id of a quantum.") from exc

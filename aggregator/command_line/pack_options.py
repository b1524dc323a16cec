"""Options of the commands that write packs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from aggregator.command_line import options
from aggregator.schemas import packs


def written(files: str) -> options.Decorator:
    """Return what adds the options that say where a pack goes, and its files.

    Parameters
    ----------
    files
        What they are, for the help.
    """
    decorators = [
        click.option(
            "-o",
            "--output",
            "pack_path",
            type=options.PATH,
            metavar="PACK",
            required=True,
            help="Where the pack goes.",
        ),
        click.option(
            "--payload",
            type=click.Choice(packs.PAYLOADS),
            help=f"Whether {files} are in the pack, or are brought by another system [default: files, or "
            "none with --manifest].",
        ),
        click.option(
            "--manifest",
            type=options.PATH,
            metavar="FILE",
            help=f"List the {files} for another system that brings them: a JSON document a line.",
        ),
    ]

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add

"""Work in a checkpoint that another run is going to replace, unless it is refused.

What all digests share is renamed; digests stay where they are, since they are no use without that. As long as
the old manifest is there under its other name, everything can be taken back.
"""

import contextlib
import os

from aggregator.schemas.checkpoints import checkpoint
from aggregator.storage import local_files

_RESULTS = (".digest", ".datasets", "last-run.json", "unreadable.jsonl")


def set_aside(layout: checkpoint.Layout) -> None:
    """Rename what all digests share."""
    for name in checkpoint.SHARED:
        _rename(layout, name, f"{name}{checkpoint.ASIDE}")


def take_back(layout: checkpoint.Layout) -> None:
    """Undo what was set aside, if anything was; the manifest, which makes it valid, comes last."""
    if not local_files.is_taken(os.path.join(layout.directory, f"{checkpoint.SHARED[0]}{checkpoint.ASIDE}")):
        return
    for name in reversed(checkpoint.SHARED):
        _rename(layout, f"{name}{checkpoint.ASIDE}", name)


def is_result(name: str) -> bool:
    """Return whether a file of a checkpoint tells what a run has found out."""
    return name.endswith(_RESULTS)


def is_aside(name: str) -> bool:
    """Return whether a file of a checkpoint was set aside."""
    return name.endswith(checkpoint.ASIDE)


def _rename(layout: checkpoint.Layout, old: str, new: str) -> None:
    # An earlier attempt came so far, or there was none, as of a ledger.
    with contextlib.suppress(FileNotFoundError):
        os.rename(os.path.join(layout.directory, old), os.path.join(layout.directory, new))

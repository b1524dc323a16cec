"""What is kept of a synthesis under way, so that it can go on after it was killed."""

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec

from aggregator.schemas import output_paths
from aggregator.storage import durable_files, errors, local_files, locks, opening, uris
from aggregator.synthesis import parameters, parts

DESCRIPTION: Final = "synthesis.json"
"""File beside the intermediate files with the parameters and, when all is done, the counts."""


_ADVICE = "This run is being made; wait until that has finished."


class State:
    """The state of a synthesis, locked; a context manager that unlocks it.

    Parameters
    ----------
    root
        Directory of the run.
    options
        Parameters of the run.

    Raises
    ------
    RefusedError
        Raised if the directory has something else in it, or a run with other parameters.
    InUseError
        Raised if a process works on it.
    """

    def __init__(self, root: str, options: parameters.SynthesisParameters) -> None:
        run, root = root, parts.state_directory(root)
        output_paths.check_directory(root, output_paths.Protection())
        output_paths.check_writeable(root)
        self._description = os.path.join(root, DESCRIPTION)
        self.parts = parts.Parts(run)
        self._options = options
        self.counts: dict[str, Any] | None = None
        content = _read(root, self._description)
        self._root, self._is_new, self._is_made = root, content is None, not local_files.is_directory(root)
        if content is None:
            _check_empty(run)
            os.makedirs(root, exist_ok=True)
            self._describe(None, self._check_absent)
        elif content.get("parameters") != options.document():
            raise errors.RefusedError(
                f"{root}: there is a synthetic run with other parameters, see {DESCRIPTION}. "
                "Delete it, or choose another directory."
            )
        else:
            self.counts = content.get("counts")
        self._lock = locks.take(self._description, local_files.open_file(self._description), _ADVICE)
        if self.counts is None:
            os.makedirs(self.parts.directory, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def undo(self) -> None:
        """Remove what was just made, as long as there is nothing else."""
        if self._is_new:
            self.parts.remove()
            os.unlink(self._description)
        if self._is_made:
            with contextlib.suppress(OSError):
                os.rmdir(self._root)

    def _check_absent(self) -> None:
        """Look again whether there is no description: it is what is locked, so it must not be replaced."""
        if local_files.is_taken(self._description):
            raise errors.InUseError(f"{self._root}: another process has just begun there. {_ADVICE}")

    def _describe(self, counts: dict[str, Any] | None, look: Callable[[], None] | None = None) -> None:
        document = {"parameters": self._options.document(), "counts": counts}
        durable_files.write_atomically(
            self._description, [msgspec.json.format(msgspec.json.encode(document)), b"\n"], look
        )

    def finish(self, counts: dict[str, Any]) -> None:
        """Note that the run is complete, and remove what was only needed on the way."""
        self._describe(counts)
        self.counts = counts
        self.parts.remove()


def _check_empty(run: str) -> None:
    """Refuse a place in a bucket where something is; a directory is looked at with its description."""
    if uris.is_remote(run):
        for _ in opening.open_store(run).list(""):
            raise errors.RefusedError(f"{run}: is not empty. Choose another place.")


def _read(root: str, path: str) -> dict[str, Any] | None:
    """Return the description of a run, or nothing if the directory is empty."""
    try:
        document: dict[str, Any] = msgspec.json.decode(local_files.read(path), type=dict[str, Any])
        return document
    except FileNotFoundError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, OSError, local_files.UnusableError) as exc:
        raise errors.RefusedError(f"{path}: damaged ({exc}). Delete the directory.") from exc
    # A process killed at the very beginning leaves a description without its final name.
    if local_files.is_directory(root) and [
        name for name in os.listdir(root) if not name.startswith(DESCRIPTION)
    ]:
        raise errors.RefusedError(f"{root}: is not empty. Choose another directory.")
    return None

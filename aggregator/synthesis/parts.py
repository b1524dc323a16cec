"""Intermediate files of a synthesis: what becomes of each quantum, and the predicted blocks of each chunk."""

import contextlib
import os
import re
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from aggregator.storage import durable_files, local_files, uris

_DIRECTORY: Final = ".synthesis"
_NAME: Final = re.compile(r"dictionary|fates|inputs|part-\d{6,}|predicted\.qg")


def state_directory(root: str) -> str:
    """Return where the state of a synthesis is kept: in the run itself, or in the working directory."""
    if not uris.is_remote(root):
        return root
    return os.path.abspath(f"{uris.split(root)[1]}.synthesis")


class Parts:
    """Files in a directory of the run that is removed in the end.

    Parameters
    ----------
    root
        Directory of the run.
    """

    def __init__(self, root: str) -> None:
        self.directory = os.path.join(state_directory(root), _DIRECTORY)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def read_dictionary(self) -> bytes:
        """Return the compression dictionary."""
        return self._read("dictionary")

    def write_dictionary(self, dictionary: bytes) -> None:
        """Keep the compression dictionary."""
        durable_files.write_atomically(self._path("dictionary"), [dictionary])

    def read_fates(self) -> npt.NDArray[np.uint8]:
        """Return the fate of each quantum, without reading them all."""
        with _opened(self._path("fates")) as stream:
            return np.memmap(stream, dtype=np.uint8, mode="r")

    def write_fates(self, fates: npt.NDArray[np.uint8]) -> None:
        """Keep the fates, which nothing is made without."""
        durable_files.write_atomically(self._path("fates"), [fates.tobytes()])

    @property
    def has_begun(self) -> bool:
        """Whether dictionary and fates are there."""
        return all(local_files.exists(self._path(name)) for name in ("dictionary", "fates"))

    @property
    def has_inputs(self) -> bool:
        """Whether everything that was before the run is in the repository."""
        return local_files.exists(self._path("inputs"))

    def note_inputs(self) -> None:
        """Note that everything that was before the run is in the repository."""
        durable_files.write_atomically(self._path("inputs"), [])

    def _read(self, name: str) -> bytes:
        return local_files.read_part(self._path(name))

    def write_part(self, number: int, blocks: list[bytes]) -> None:
        """Keep the predicted blocks of a chunk, when all its files have been written."""
        path = self._part(number)
        sizes = np.array([len(blocks), *map(len, blocks)], dtype="<i8")
        temporary = durable_files.temporary_name(path)
        with open(temporary, "xb") as stream:
            stream.write(sizes.tobytes())
            stream.writelines(blocks)
        os.rename(temporary, path)

    def read_sizes(self, number: int) -> npt.NDArray[np.int64]:
        """Return the sizes of a chunk's predicted blocks."""
        with _opened(self._part(number)) as stream:
            n = int.from_bytes(stream.read(8), "little")
            return np.frombuffer(stream.read(8 * n), dtype="<i8", count=n).astype(np.int64)

    def read_blocks(self, number: int) -> bytes:
        """Return a chunk's predicted blocks."""
        with _opened(self._part(number)) as stream:
            stream.seek(8 + 8 * int.from_bytes(stream.read(8), "little"))
            return stream.read()

    def has_part(self, number: int) -> bool:
        """Return whether a chunk is complete; after a failure of the machine a part can be incomplete."""
        try:
            sizes = self.read_sizes(number)
            return os.path.getsize(self._part(number)) == 8 + 8 * len(sizes) + int(sizes.sum())
        except (OSError, ValueError, local_files.UnusableError):
            return False

    def remove(self) -> None:
        """Remove all of it; what others have put there stays, with the directory."""
        for name in os.listdir(self.directory):
            if _NAME.fullmatch(durable_files.final_name(name)):
                os.unlink(self._path(name))
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)

    def _part(self, number: int) -> str:
        return self._path(f"part-{number:06}")


def _opened(path: str) -> IO[bytes]:
    return os.fdopen(local_files.open_file(path), "rb")

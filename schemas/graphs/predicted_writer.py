"""Predicted quantum graphs, written in parts (quantum-graph-format.md sections 1 to 6).

Whatever grows with the number of quanta is written as a stream, and every member has the same bytes for the
same content: dates in the archive are fixed.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, Self

import numpy as np
import numpy.typing as npt
from aggregator.schemas.graphs import addresses, blocks, container, predicted_documents
from aggregator.storage import durable_files

BLOCKS = "quantum_datasets.mb"
"""Member with a block for each regular quantum."""

ADDRESSES = "quanta.addr"
"""Member with the places of these blocks."""


class Frames:
    """Makes the blocks of quanta (section 6.4) as they lie in the file.

    Parameters
    ----------
    dictionary, level, int_size
        As for `PredictedWriter`.
    """

    def __init__(self, dictionary: bytes, level: int, int_size: int = 8) -> None:
        self._codec = blocks.Codec(dictionary, level)
        self._int_size = int_size

    def __call__(self, document: bytes) -> bytes:
        """Return the block of a quantum, given its JSON."""
        return blocks.frame(self._codec.compress(document), self._int_size)


class PredictedWriter:
    """Writes one predicted graph, which appears complete and synced when the context ends, or not at all.

    Parameters
    ----------
    path
        Local path of the graph.
    dictionary
        Compression dictionary of all blocks; empty for none.
    level
        Compression level.
    int_size
        Bytes per integer in multi-block and address files, as in the header.
    """

    def __init__(self, path: str, dictionary: bytes, level: int, int_size: int = 8) -> None:
        self._path = path
        self._codec = blocks.Codec(dictionary, level)
        self._int_size = int_size
        self._temporary = durable_files.temporary_name(path)
        self._archive = zipfile.ZipFile(self._temporary, "x", zipfile.ZIP_STORED)
        if dictionary:
            with self._member(container.DICTIONARY) as out:
                out.write(dictionary)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            self._archive.close()
            if kind is None:
                durable_files.publish(self._temporary, self._path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)

    @contextlib.contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        # A bare description has a fixed date.
        with self._archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as out:
            yield out

    def single(self, name: str, document: bytes) -> None:
        """Write a single-block component."""
        with self._member(container.single(name)) as out:
            out.write(self._codec.compress(document))

    def stream(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        """Write a single-block component whose document is too large to be held.

        Parameters
        ----------
        name
            Component.
        size
            Size of the document in bytes; readers need it in front.
        pieces
            The document.

        Raises
        ------
        ValueError
            If the pieces are not of that size in all.
        """
        with self._member(container.single(name)) as out:
            for piece in self._codec.compress_stream(size, pieces):
                out.write(piece)

    def thin_graph(self, quanta: predicted_documents.Quanta, edges: predicted_documents.Edges) -> None:
        """Write the thin graph (section 6.1)."""
        size = predicted_documents.thin_graph_size(quanta, edges)
        self.stream("thin_graph", size, predicted_documents.thin_graph_pieces(quanta, edges))

    def dimension_data(self, rows: predicted_documents.Rows) -> None:
        """Write the dimension data (section 6.3)."""
        size = sum(map(len, predicted_documents.dimension_pieces(rows)))
        self.stream("dimension_data", size, predicted_documents.dimension_pieces(rows))

    def quanta(self, pieces: Iterable[bytes]) -> None:
        """Write the blocks of all regular quanta (see `Frames`), grouped by task in pipeline order."""
        with self._member(BLOCKS) as out:
            for piece in pieces:
                out.write(piece)

    def addresses(self, ids: addresses.Ids, sizes: npt.NDArray[np.int64]) -> None:
        """Write the address file.

        Parameters
        ----------
        ids, sizes
            Id of each quantum and size of its block in bytes, in the order of the blocks, shape (n,).
        """
        order = np.argsort(ids, kind="stable")
        places = np.stack([blocks.offsets(sizes), sizes], axis=1)[order]
        with self._member(ADDRESSES) as out:
            out.write(addresses.encode_header(self._int_size, len(ids), 1))
            for begin in range(0, len(ids), 1 << 16):
                rows = order[begin : begin + (1 << 16)]
                part = places[begin : begin + (1 << 16)]
                out.write(addresses.encode_rows(ids[rows], begin, part, self._int_size))

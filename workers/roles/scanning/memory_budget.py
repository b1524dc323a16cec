"""How much memory may hold what was read ahead of its turn."""

import threading

from aggregator.storage import stores


class Budget:
    """Memory for what several threads have read and nobody has taken yet.

    Parameters
    ----------
    size
        Bytes.
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Take some bytes.

        Raises
        ------
        TooLargeError
            If not as many are left.
        """
        with self._lock:
            if size > self._left:
                raise stores.TooLargeError
            self._left -= size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._left += size

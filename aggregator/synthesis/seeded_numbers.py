"""Numbers that look random, the same on every machine and with every version of numpy."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Dice:
    """A stream of numbers.

    Only raw bits of the generator are used, which numpy promises never to change, and arithmetic that has
    just one correct result.

    Parameters
    ----------
    *key
        What distinguishes this stream from others: non-negative integers, the seed first.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, *shape: int) -> Floats:
        """Return numbers between 0 and 1."""
        raw = np.asarray(self._bits.random_raw(math.prod(shape)), dtype=np.uint64)
        return (raw >> np.uint64(11)).astype(np.float64).reshape(shape) * np.float64(2.0**-53)

    def below(self, limit: int, *shape: int) -> Integers:
        """Return integers from 0 to below a limit."""
        return (self.uniform(*shape) * limit).astype(np.int64)

    def bell(self, *shape: int) -> Floats:
        """Return numbers around 0 with standard deviation 1, none beyond 3.5."""
        total: Floats = self.uniform(4, *shape).sum(axis=0)
        return (total - 2.0) * np.float64(3.0**0.5)

    def permutation(self, n: int) -> Integers:
        """Return the integers below n in any order."""
        raw = np.asarray(self._bits.random_raw(n), dtype=np.uint64)
        return np.argsort(raw, kind="stable").astype(np.int64)

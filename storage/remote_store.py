"""What stores on other hosts have in common: files of this host are sent there, locks are of this host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator

from aggregator.storage import errors, leases, local_files, locks, stores, uris


class RemoteStore(stores.Store):
    """A store that is not on this host."""

    __slots__ = ()

    root: str

    def location(self, key: str) -> str:
        """Return the URI of an object."""
        return uris.join(self.root, key)

    def key_of(self, location: str) -> str | None:
        """Return the key of an object, given its URI."""
        return uris.relative(location, self.root) if uris.is_remote(location) else None

    def is_there(self, key: str) -> bool:
        """Return whether there is an object; where access is denied, nobody knows."""
        try:
            return self.mark(key) is not None
        except local_files.UnusableError as exc:
            raise errors.MachineError(self.location(key), str(exc)) from exc

    def identity(self) -> tuple[str, int, int]:
        """Return the root; what is there has no number."""
        return self.root, 0, 0

    def workplace(self, key: str, directory: str) -> str:
        """Return a path in the directory."""
        return os.path.join(directory, os.path.basename(key))

    def check_adoption(self, source: str, key: str, mode: str) -> None:
        """Refuse links."""
        if mode not in ("auto", "copy", "move"):
            raise errors.RefusedError(
                f"{source}: can't be linked to {self.location(key)}; copy or move it there instead."
            )

    def adopt(
        self, source: str, key: str, mode: str, tick: Callable[[], None], look: Callable[[], object]
    ) -> None:
        """Upload a file."""
        self._upload(source, key, tick, look)

    def publish(self, source: str, key: str, look: Callable[[], object]) -> None:
        """Upload a file, and remove it here."""
        self._upload(source, key, lambda: None, look)
        os.unlink(source)

    def _upload(self, source: str, key: str, tick: Callable[[], None], look: Callable[[], object]) -> None:
        """Make a local file an object in one step, right after the look."""
        raise NotImplementedError

    def make_durable(self, key: str) -> None:
        """Look whether an object is there: what a server has acknowledged is durable."""
        if self.mark(key) is None:
            raise FileNotFoundError(2, "No such object", self.location(key))

    @contextlib.contextmanager
    def lock(self, key: str, advice: str) -> Iterator[leases.Claim | None]:
        """Lock an object for the processes of this host."""
        name = hashlib.blake2b(self.location(key).encode(), digest_size=16).hexdigest()
        path = os.path.join(tempfile.gettempdir(), f"aggregator-{os.getuid()}-{name}.lock")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with locks.take(self.location(key), fd, advice) as lock:
            yield lock.claim

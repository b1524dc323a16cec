"""What tells a repository from another one, as far as that shows without opening its database."""

import hashlib
import os

from aggregator.butler.configuration import repository_config, sqlite_urls
from aggregator.schemas.checkpoints import ledger

_ABSENT = (0, 0)


def describe(repository: repository_config.RepositoryConfig) -> str:
    """Return a hash of where a repository is: its directories, its database, and their devices and inodes.

    A repository that was moved or copied has another one, also if its files are the same, and so has one in a
    directory where another file system is mounted now.

    Parameters
    ----------
    repository
        Its configuration.
    """
    places: list[tuple[str, int, int]] = []
    for root in (repository.root, *(store.root for store in repository.datastores)):
        places.append((os.path.realpath(root), *_inode(root)))
    path = sqlite_urls.path(repository.database)
    if path is not None:
        places.append((os.path.realpath(path), *_inode(path)))
    else:
        places.append((ledger.place(repository.database, repository.namespace), *_ABSENT))
    # Paths need not be text.
    return hashlib.blake2b(ascii(places).encode(), digest_size=16).hexdigest()


def devices(repository: repository_config.RepositoryConfig) -> tuple[int, ...]:
    """Return the device of each datastore's root; on another one, inodes mean nothing."""
    return tuple(_inode(store.root)[0] for store in repository.datastores)


def _inode(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return _ABSENT
    return status.st_dev, status.st_ino

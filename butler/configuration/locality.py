"""What tells a repository from another one."""

import hashlib

from aggregator.butler.configuration import repository_config, sqlite_urls
from aggregator.schemas.checkpoints import ledger
from aggregator.storage import local_store, opening


def describe(repository: repository_config.RepositoryConfig, server: str = "") -> str:
    """Return a hash of where a repository is: its directories, its database, and their devices and inodes.

    A repository that was moved or copied has another one, also if its files are the same, and so has one in a
    directory where another file system is mounted now.

    Parameters
    ----------
    repository
        Its configuration.
    server
        What its database's server says which one it is, if that counts.
    """
    places = [opening.open_store(repository.root).identity()]
    places += [store.files.identity() for store in repository.datastores]
    path = sqlite_urls.path(repository.database)
    if path is not None:
        places.append(local_store.identity(path))
    else:
        places.append((ledger.place(repository.database, repository.namespace), 0, 0))
    # Paths need not be text.
    return hashlib.blake2b(f"{places!a}{server}".encode(), digest_size=16).hexdigest()

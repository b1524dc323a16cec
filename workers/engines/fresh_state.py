"""What a copy of a process has to set back: it begins as a new interpreter does."""

import gc
import logging
import os

from aggregator.workers.engines import thread_pools


def restore() -> None:
    """Forget how the original logs, keep its objects alive, and let libraries start no threads."""
    # Finalizers would close what is the original's, and to look for objects to finalize would copy memory.
    gc.freeze()
    os.environ.update(thread_pools.SINGLE)
    root = logging.getLogger()
    for logger in (root, *root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
    root.setLevel(logging.WARNING)

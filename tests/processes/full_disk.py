"""A disk that takes no more: a limit on the size of files needs no rights, and every library runs into it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT = 64 * 1024


@contextmanager
def full_disk(limit: int = LIMIT) -> Iterator[None]:
    """Let no file of this process grow beyond the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

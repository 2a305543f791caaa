"""File descriptors: as many as the system allows, and some of them kept for the endpoint."""

import contextlib
import os
import resource
from typing import Final


RESERVED: Final = 16
_LARGEST_LIMIT: Final = 65_536


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _LARGEST_LIMIT
    limit = _LARGEST_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LARGEST_LIMIT)
    if soft < limit:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Reserve:
    """Open descriptors that are closed, one by one, when the endpoint gets no other.

    Polls open descriptors, too. Without a reserve they could take the last one, and then no scrape and no
    probe could be answered.

    Args:
        size: How many to keep.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._descriptors: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Open descriptors until the reserve is full again, as far as there are any."""
        with contextlib.suppress(OSError):
            while len(self._descriptors) < self._size:
                self._descriptors.append(os.open(os.devnull, os.O_RDONLY))

    def release(self) -> bool:
        """Close one; return whether there was any."""
        if not self._descriptors:
            return False
        os.close(self._descriptors.pop())
        return True

    def close(self) -> None:
        """Close all."""
        self._size = 0
        while self.release():
            pass

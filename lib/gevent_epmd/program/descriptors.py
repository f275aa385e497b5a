"""Protects the standard descriptors 0, 1 and 2 before the program opens anything else, and makes sure that
there are enough other ones."""

from __future__ import annotations

import os
import sys

#: Source: sys/syslimits.h of Darwin.
_OPEN_MAX = 10240


def open_standard_descriptors() -> None:
    """Open /dev/null on each of the descriptors 0, 1 and 2 that is closed.

    If the caller closed one of them, the next socket would get its number, and would then be used as stdin,
    stdout or stderr.
    """
    try:
        descriptor = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return  # a chroot without /dev/null; output cannot be shown there anyway
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)


def raise_limit(needed: int) -> None:
    """Raise the descriptor limit as far as the host allows, because each node takes a descriptor.

    Raises OSError if fewer than `needed` descriptors are free afterwards: libev would abort the process.
    """
    try:
        import resource  # no other command line needs it

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if sys.platform == "darwin" and not 0 <= hard <= _OPEN_MAX:
            hard = _OPEN_MAX  # the system reports no limit, and allows no more than this
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, OSError, ValueError):
        pass  # the import needs a descriptor itself; the system may allow less than the limit that it reports
    free: list[int] = []
    try:
        while len(free) < needed:
            free.append(os.dup(0))
    except OSError as error:
        raise OSError(
            f"{error.strerror}: raise the limit (ulimit -n) by {needed - len(free)} or more"
        ) from None
    finally:
        for descriptor in free:
            os.close(descriptor)

"""Protects the standard descriptors 0, 1 and 2 before the program opens anything else."""

from __future__ import annotations

import os


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

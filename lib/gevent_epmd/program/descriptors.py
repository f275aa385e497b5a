"""The standard descriptors, before anything else is opened."""

from __future__ import annotations

import os


def open_standard_descriptors() -> None:
    """Make sure that 0, 1 and 2 are taken.  Where the caller closed one, the next socket would get its
    number, and would then be read, written or replaced as if it were stdin, stdout or stderr."""
    try:
        descriptor = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return  # a bare chroot; whoever closes them there has no use for what we say
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)

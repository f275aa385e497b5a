"""What may differ between two runs of the same program, and so is masked before two are compared:
creations' values, descriptor numbers, times, port numbers; nothing else."""

from __future__ import annotations

import re

_TIME = re.compile(r"\b\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\b")
_DESCRIPTOR = re.compile(r"\b(fd = |file descriptor |ALIVE socket )\d+")
_CREATION = re.compile(r"('[^']*:|\"[^\"]*#)\d+(['\"])")


def masked(text: str, port: int) -> str:
    """The text without its times, descriptors, creations, and the mapper's own port."""
    text = _TIME.sub("TIME", text)
    text = _DESCRIPTOR.sub(r"\1FD", text)
    text = _CREATION.sub(r"\1CREATION\2", text)
    return re.sub(rf"\b{port}\b", "PORT", text)

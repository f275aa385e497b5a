"""The clock is set while it serves: a library that is preloaded plays the clock (`clock.c`)."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from soak.play import Figures, Form, Scale, scene
from support.patience import wait_until
from support.peer import Peer, barrier, look_up, names, node, register
from support.programs import real

_TIMEOUT = 2
_JUMPS = {"back": -86_400, "forward": 86_400}


@scene("the clock is set back and forward by a day")
def clock(form: Form, scale: Scale) -> Figures:
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([real("cc"), "-shared", "-fPIC", "-o", library, str(source)], check=True)
        setting = Path(folder) / "offset"
        environ = {"LD_PRELOAD": library, "CLOCK_FILE": str(setting)}
        for title, seconds in _JUMPS.items():
            setting.write_text("0")
            with form("-packet_timeout", str(_TIMEOUT), environ=environ) as server:
                figures[f"closed after s, {title}"] = jump(server.port, setting, seconds, scale)
    return figures


def jump(port: int, setting: Path, seconds: int, scale: Scale) -> float:
    """Set the clock with somebody half way through a request; after how many seconds they were closed."""
    seen = [creation_of(port) for _ in range(5)]
    start = time.monotonic()
    with Peer(port) as idle:
        idle.send(b"\0")
        barrier(port)
        setting.write_text(str(seconds))
        while idle.is_open():
            took = time.monotonic() - start
            assert took < _TIMEOUT + scale.promised(3), f"{seconds} s: still open after {took:.0f} s"
            look_up(port, "foo")
            time.sleep(0.05)
        took = time.monotonic() - start
    assert took > _TIMEOUT - 0.5, f"{seconds} s: timed out after {took:.1f} s of {_TIMEOUT}"
    seen += [creation_of(port) for _ in range(5)]
    assert len(set(seen)) == len(seen), f"a creation was repeated: {seen}"
    return round(took, 1)


def creation_of(port: int) -> int:
    peer, creation = register(port, node("foo"))
    peer.close()
    wait_until(lambda: not names(port), "foo to go")
    return creation

"""Programs in which a mapper is embedded, and which have changed something that it could depend on.

`Host` runs one as a process of its own; its peers are in the process that runs the test, where nothing was
changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from typing import IO

from support.patience import PATIENCE
from support.programs import clean_environment

#: Both kinds of embedding, and how the main program waits for a byte of its test.
PORT_MAPPER, THREADED = "PortMapper", "ThreadedPortMapper"
_WAITS = {PORT_MAPPER: "import gevent.socket; gevent.socket.wait_read(told)", THREADED: "pass"}

_PROGRAM = """\
import os, sys
told = int(sys.argv[1])
def wait():
    {wait}
    return os.read(told, 1)
{before}
from gevent_epmd import {kind}
{after}
mapper = {kind}(port=0{options})
with mapper:
    {serving}
    os.write(told, b"%d\\n" % mapper.port)
    wait()
    {closing}
{closed}
import json
os.write(told, json.dumps(globals().get("seen")).encode() + b"\\n")
wait()
"""


@dataclass(frozen=True)
class Changed:
    """What a program does `before` it imports us, `after` that, while it is `serving`, just before it is
    `closing`, and once it has `closed`; what it leaves in `seen` must equal `seen`.  `shell` runs it."""

    before: str = "pass"
    after: str = "pass"
    serving: str = "pass"
    closing: str = "pass"
    closed: str = "pass"
    seen: object = None
    options: str = ""
    python: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    shell: str = 'exec "$@"'
    kinds: tuple[str, ...] = (PORT_MAPPER, THREADED)


class Host:
    """A program that runs and has a mapper at `port`."""

    def __init__(self, kind: str, changed: Changed) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        self._control = ours
        self._said = ours.makefile("rb")
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the host
        parts = {name: getattr(changed, name) for name in ("before", "after", "options")}
        inner = {name: getattr(changed, name).replace("\n", "\n    ") for name in ("serving", "closing")}
        script = _PROGRAM.format(kind=kind, wait=_WAITS[kind], closed=changed.closed, **parts, **inner)
        python = [sys.executable, *changed.python, "-c", script, str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(
                ["sh", "-c", changed.shell, "sh", *python],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=clean_environment(**changed.environ),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            self.port = int(self._read_line())
        except BaseException:
            self.__exit__()
            raise

    def close(self) -> object:
        """Let the program close its mapper; gives what it has seen."""
        self._control.sendall(b".")
        return json.loads(self._read_line())

    def end(self) -> list[str]:
        """Let it end, which it must do in peace; gives what it has written to stderr, without the log."""
        self._control.sendall(b".")
        status = self.process.wait(PATIENCE)
        assert status == 0, self._errors()
        return [line for line in self._errors().splitlines() if not line.startswith(("epmd: ", "***** "))]

    def _read_line(self) -> bytes:
        line = self._said.readline()
        assert line, self._errors()
        return line

    def _errors(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it may have left children
        self.process.wait()
        self._said.close()
        self._control.close()
        self._stderr.close()

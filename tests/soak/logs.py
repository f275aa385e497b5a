"""A log that nobody reads: lines may be lost, answers may not be late."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from gevent_epmd.wire import frame
from soak.crowd import quick
from soak.play import Figures, Form, Scale, scene
from support.daemons import daemon
from support.patience import PATIENCE, wait_until
from support.peer import names, node, register
from support.ports import answers, reserved_port
from support.programs import clean_environment, real
from support.syslog import PRIVATE_DEV, received

#: The promise of how long an answer takes, in seconds.
_AT_ONCE = 2.0
#: More than a full pipe or a full syslog socket takes: each look-up is several lines.
_LOOKUPS = 1500


def look_up_again_and_again(port: int, scale: Scale) -> Figures:
    """The slowest of so many look-ups; fails at the first that is not answered."""
    worst = 0.0
    for number in range(_LOOKUPS):
        start = time.monotonic()
        with quick(port, number, patience=scale.promised(_AT_ONCE)) as peer:
            peer.send(frame(b"zfoo"))
            try:
                assert peer.read(2) == b"w\1", "closed without an answer"
            except TimeoutError:
                raise AssertionError(f"look-up {number} was not answered") from None
        worst = max(worst, time.monotonic() - start)
    return {"look-ups": _LOOKUPS, "worst ms": round(worst * 1000, 1)}


@scene("`-daemon -d` with a syslog that takes nothing any more")
def stuck_syslog(form: Form, scale: Scale) -> Figures:
    with syslog() as (logger, prefix):
        with contextlib.ExitStack() as stack:
            port, _ = stack.enter_context(daemon([*prefix, *form.command], "-d"))
            stack.callback(logger.close)  # whoever waits for it goes on then
            figures = look_up_again_and_again(port, scale)
            lines = len(list(received(logger)))
        return figures | {"lines that came": lines}


@scene("`-daemon` without a syslog")
def no_syslog(form: Form, scale: Scale) -> Figures:
    with syslog() as (logger, prefix):
        logger.close()
        os.unlink(prefix[-1] + "/log")
        with daemon([*prefix, *form.command], "-d") as (port, _):
            return look_up_again_and_again(port, scale)


@contextlib.contextmanager
def syslog() -> Iterator[tuple[socket.socket, list[str]]]:
    """A syslog's socket, and the beginning of a command line that sees it as /dev/log."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger,
    ):
        logger.bind(f"{folder}/log")
        yield logger, [real("unshare"), "--map-root-user", "--mount", "sh", "-c", PRIVATE_DEV, "sh", folder]


@scene("`-d -d -d` with a stderr that is a full pipe")
def stuck_stderr(form: Form, scale: Scale) -> Figures:
    return said_in_vain(form, scale, *os.pipe())


@scene("`-d -d -d` on a terminal that nobody reads")
def stuck_terminal(form: Form, scale: Scale) -> Figures:
    """It takes a byte, and then not a line."""
    return said_in_vain(form, scale, *os.openpty())


def said_in_vain(form: Form, scale: Scale, reading: int, writing: int) -> Figures:
    """With `writing` as its stderr; nobody reads meanwhile."""
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        port = stack.enter_context(reserved_port())
        process = subprocess.Popen(
            [*form.command, "-port", str(port), "-d", "-d", "-d"],
            stderr=writing,
            env=clean_environment(),
            start_new_session=True,
        )
        stack.callback(process.wait, PATIENCE)
        stack.callback(process.terminate)
        os.close(writing)
        wait_until(lambda: answers(port), "it to answer")
        figures = look_up_again_and_again(port, scale)
        assert process.poll() is None, f"ended with status {process.returncode}"
        lines = os.read(reading, 1 << 20).splitlines()
        return figures | {"lines that came": len(lines)}


@scene("names with line ends and terminal controls, `-d -d -d`")
def forged_lines(form: Form, scale: Scale) -> Figures:
    evil = "a\r\nepmd: Sun Nov 22 11:20:41 2026: all is well\x1b[2J"
    with form("-d", "-d", "-d") as server:
        peer, _ = register(server.port, node(evil))
        assert len(names(server.port)) >= 1
        peer.close()
        wait_until(lambda: not names(server.port), "it to go")
        lines = server.log().split("\r\n")
    forged = [line for line in lines if line.endswith("all is well\x1b[2J") or "\x1b" in line]
    assert not forged, f"a line in the log: {forged[0]!r}"
    return {"forged lines": 0}

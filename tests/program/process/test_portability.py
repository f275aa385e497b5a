"""Other systems, as far as they can be played here: what Linux has and they do not is taken away."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gevent_epmd.server import listeners
from support.programs import run

#: What macOS or FreeBSD have not, for all that the program uses.
OF_SOCKETS = "_socket.TCP_KEEPIDLE _socket.MSG_NOSIGNAL _socket.AF_NETLINK _socket.SCM_CREDENTIALS"
OF_WAITING = "os.pidfd_open os.waitid select.epoll time.CLOCK_BOOTTIME"
OF_USERS = "os.setresuid os.setresgid os.getresuid os.getresgid os.getgrouplist os.O_PATH"
#: Imported by every Python that starts with its folder in PYTHONPATH.
SITE = """
import os
for name in os.environ["MISSING"].split():
    module, _, name = name.partition(".")
    for module in (module, module.removeprefix("_")):
        found = __import__(module)
        if hasattr(found, name): delattr(found, name)
        if name in getattr(found, "__all__", ()): found.__all__.remove(name)
"""
SCENE = """
import os, subprocess, sys
from gevent_epmd import PortMapper, ThreadedPortMapper, aio, client
from gevent_epmd.testing import EpmdProcess
folder = sys.argv[1]
def read(name):
    with open(f"{folder}/{name}") as file: return file.read().strip()
with ThreadedPortMapper(port=0, allow_register=["127.0.0.0/8"]) as mapper:
    with mapper.register("foo", 4711): assert mapper.names() == [("foo", 4711)]
with PortMapper(port=0) as mapper: assert mapper.names() == []
with EpmdProcess("-pid_file", f"{folder}/pid") as epmd:
    with epmd.register("foo", 4711): assert epmd.wait_for("foo") == 4711
    epmd.pause()
    epmd.resume()
    epmd.check()
    assert read("pid") == str(epmd.pid)
    epmd.restart()
    epmd.crash()
program = [sys.executable, "-m", "gevent_epmd"]
subprocess.run([*program, "-daemon", "-loopback", "-port", "0", "-port_file", f"{folder}/port", "-pid_exit",
                str(os.getpid())], check=True)
port = read("port")
assert client.started(port=int(port))
subprocess.run([*program, "-port", port, "-names"], check=True)
subprocess.run([*program, "-port", port, "-check"])
subprocess.run([*program, "-port", port, "-kill"], check=True)
"""


# Not under coverage, which sometimes spins for ever in a process with threads, as -check has them.
@pytest.mark.parametrize("missing", [f"{OF_SOCKETS} {OF_USERS}", f"{OF_WAITING} {OF_USERS}"])
def test_without_what_other_systems_lack(missing: str, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    environ = {"PYTHONPATH": str(tmp_path / "site"), "MISSING": missing}
    done = run([sys.executable, "-W", "error", "-c", SCENE, str(tmp_path)], environ=environ)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    said = done.stdout.splitlines()
    assert said[0].startswith(b"epmd: up and running on port "), said
    assert said[-1] == b"Killed"


@pytest.mark.measured
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_in_use_is_found_where_binding_succeeds(host: str) -> None:
    """As on the BSDs: this asks for the port before it is bound."""
    wild = "::" if ":" in host else "0.0.0.0"
    (place,) = (place for place in listeners.places([host]) if place.host == host)
    sockets = listeners.open_listeners(None, 0)
    port = sockets[0].getsockname()[1]
    try:
        assert listeners._is_served(place, port)
        assert listeners._is_served(place._replace(host=wild), port)
    finally:
        listeners.close_all(sockets)
    assert not listeners._is_served(place, port)

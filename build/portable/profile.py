"""The work by which the portable Python is optimised: profile.py WHEELS LIB.

What the program does for its users: look-ups first of all, registrations, listings, quick lines and starts.
WHEELS is a folder with wheels of what it needs, and LIB has the package.
"""

import glob
import os
import socket
import subprocess
import sys
import tempfile
import zipfile

wheels, lib = map(os.path.abspath, sys.argv[1:])
site = tempfile.mkdtemp()
for wheel in sorted(glob.glob(f"{wheels}/*.whl")):
    zipfile.ZipFile(wheel).extractall(site)
sys.path[:0] = [site, lib]
environment = {**os.environ, "PYTHONPATH": f"{site}:{lib}"}

from gevent_epmd import ThreadedPortMapper  # noqa: E402
from gevent_epmd.client import register  # noqa: E402
from gevent_epmd.wire import frame  # noqa: E402


def ask(port: int, *packets: bytes) -> None:
    """Ask all of them at a time, each on a connection of its own."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in packets]
    for connection, packet in zip(connections, packets, strict=True):
        connection.sendall(packet)
    for connection in connections:
        with connection:
            while connection.recv(65536):
                pass


def epmd(*options: str) -> None:
    command = [sys.executable, "-S", "-m", "gevent_epmd", *options]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


with ThreadedPortMapper(port=0) as mapper:
    held = [register(f"held{number}", 1000 + number, port=mapper.port) for number in range(100)]
    for number in range(10000):
        packet = frame(b"zheld%d" % (number % 100))
        ask(mapper.port, packet)
        if number % 8 == 0:
            ask(mapper.port, *[packet] * 8)
        if number % 20 == 0:
            ask(mapper.port, frame(b"n"))
        if number % 5 == 0:
            register(f"new{number % 50}", 4711, port=mapper.port).close()
    for _ in range(150):
        epmd("-port", str(mapper.port), "-names")
        epmd("-port", str(mapper.port), "-daemon")
with socket.create_server(("127.0.0.1", 0)) as reserved:
    port = str(reserved.getsockname()[1])
for _ in range(40):
    epmd("-port", port, "-daemon", "-relaxed_command_check")
    epmd("-port", port, "-kill")

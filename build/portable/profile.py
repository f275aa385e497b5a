"""The work by which the portable Python is optimised: profile.py WHEELS LIB FOLDER.

What the program does for its users: look-ups first of all, registrations, listings, quick lines and starts.
WHEELS is a folder with wheels of what it needs, LIB has the package, and FOLDER is where they are unpacked.

The counts of two runs must be the same, or one recipe makes two Pythons. So one thread does one thing after
the other, and `compile` calls this without random addresses and hashes. The epmd that quick lines ask is
killed, because how often it waits depends on the machine: the counts of a process that is killed are lost.
"""

import glob
import itertools
import os
import signal
import socket
import subprocess
import sys
import zipfile

wheels, lib, site = map(os.path.abspath, sys.argv[1:])
# On one processor, processes run only when another one waits.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for wheel in sorted(glob.glob(f"{wheels}/*.whl")):
    zipfile.ZipFile(wheel).extractall(site)
sys.path[:0] = [site, lib]
environment = {**os.environ, "PYTHONPATH": f"{site}:{lib}"}

import gevent  # noqa: E402

from gevent_epmd import PortMapper  # noqa: E402
from gevent_epmd.wire import frame  # noqa: E402

HOST = "127.0.0.1"
#: Ports of a network of its own: of the mappers, and of each connection.
PORT = 14369
sources = itertools.count(20000)


def answers(port: int, *packets: bytes) -> list[socket.socket]:
    """Send all of them at a time, each on a connection of its own, and wait until each has an answer."""
    connections = [
        socket.create_connection((HOST, port), source_address=(HOST, next(sources))) for _ in packets
    ]
    for connection, packet in zip(connections, packets, strict=True):
        connection.sendall(packet)
    hub = gevent.get_hub()
    for connection in connections:
        hub.wait(hub.loop.io(connection.fileno(), 1))
        connection.recv(65536)
    return connections


def ask(port: int, *packets: bytes) -> None:
    for connection in answers(port, *packets):
        connection.close()


def alive(name: str, port: int) -> bytes:
    encoded = name.encode()
    ends = len(encoded).to_bytes(2, "big") + encoded + b"\0\0"
    return frame(b"x" + port.to_bytes(2, "big") + b"M\0\0\6\0\5" + ends)


def epmd(*options: str) -> None:
    command = [sys.executable, "-S", "-m", "gevent_epmd", "-port", str(PORT), *options]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


with PortMapper(port=PORT) as mapper:
    held = [answers(mapper.port, alive(f"held{number}", 1000 + number)) for number in range(100)]
    for number in range(10000):
        packet = frame(b"zheld%d" % (number % 100))
        ask(mapper.port, packet)
        if number % 8 == 0:
            ask(mapper.port, *[packet] * 8)
        if number % 20 == 0:
            ask(mapper.port, frame(b"n"))
        if number % 5 == 0:
            ask(mapper.port, alive(f"new{number % 50}", 4711))
            gevent.sleep(0)  # it is unregistered
pid_file = f"{site}/pid"
epmd("-daemon", "-pid_file", pid_file)
for _ in range(150):
    epmd("-names")
    epmd("-daemon")
with open(pid_file) as file:
    os.kill(int(file.read()), signal.SIGKILL)
for _ in range(40):
    epmd("-daemon", "-relaxed_command_check")
    epmd("-kill")

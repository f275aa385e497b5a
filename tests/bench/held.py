"""held.py PORT NODES: registers so many nodes, says so, and keeps them until its input ends; a process of
its own.
"""

from __future__ import annotations

import resource
import sys
from _socket import AF_INET, MSG_WAITALL, SOCK_STREAM, socket

from load import HOSTS, REGISTERED_SIZE, frame, node_fields


def register(port: int, number: int) -> socket:
    sock = socket(AF_INET, SOCK_STREAM)
    sock.connect((HOSTS[number % len(HOSTS)], port))
    sock.send(frame(b"x" + node_fields("held", number)))
    if sock.recv(REGISTERED_SIZE, MSG_WAITALL)[:2] != b"v\0":
        sys.exit(f"node {number} was refused")
    return sock


def main(port: int, nodes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = [register(port, number) for number in range(nodes)]
    print(len(kept), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

"""bare.py -port PORT: accepts, reads, says always the same, closes; the least that a server can do, as the
limit of what the machine and the load generator give.
"""

from __future__ import annotations

import sys
from _socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, SOMAXCONN, socket

from load import lookups


def main(port: int) -> None:
    listening = socket(AF_INET, SOCK_STREAM)
    listening.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listening.bind(("0.0.0.0", port))
    listening.listen(SOMAXCONN)
    reply = lookups(1, port)[0].reply
    while True:
        descriptor, _ = listening._accept()
        sock = socket(AF_INET, SOCK_STREAM, 0, descriptor)
        sock.recv(4096)
        sock.send(reply)
        sock.close()


if __name__ == "__main__":
    main(int(sys.argv[2]))

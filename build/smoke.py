"""Check that an executable serves at all: smoke.py EXECUTABLE prints nothing, or why it failed with status 1.

Short on purpose: the tests also run against the executable.
"""

import os
import socket
import subprocess
import sys
import tempfile

#: For what hangs, in seconds: a build may share the machine with anything.
PATIENCE = 300


def call(executable: str, port: int, *options: str) -> str:
    command = [executable, "-port", str(port), *options]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, text=True, check=False)
    if done.returncode or done.stderr:
        sys.exit(f"{options}: status {done.returncode}, {done.stderr}")
    return done.stdout


def check(what: str, *, holds: bool) -> None:
    if not holds:
        sys.exit(f"failed: {what}")


def main(executable: str) -> None:
    with socket.socket() as reserved, tempfile.TemporaryDirectory() as folder:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        os.environ["TMPDIR"] = folder
        call(executable, port, "-daemon", "-relaxed_command_check")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as node:
            node.sendall(b"\0\x11x\x12\x67M\0\0\6\0\5\0\3foo\0\1e")
            check("a node is registered", holds=node.recv(6)[:2] == b"v\0")
            names = f"epmd: up and running on port {port} with data:\nname foo at port 4711\n"
            check("-names lists it", holds=call(executable, port, "-names") == names)
            check("-stop stops it", holds=call(executable, port, "-stop", "foo") == "STOPPED\n")
        check("-kill kills", holds=call(executable, port, "-kill") == "Killed\n")
        check("no folder is left", holds=not os.listdir(folder))


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))

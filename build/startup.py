"""How long an epmd takes to start: startup.py EXECUTABLE [ROUNDS].

Medians in milliseconds, C's epmd beside it in the same rounds where it is installed; Markdown.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

C_EPMD = "/usr/bin/epmd"
PATIENCE = 20.0


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(b"\0\1n")
            return len(sock.recv(4)) == 4
    except OSError:
        return False


def wait_for(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while not answers(port):
        if time.monotonic() > end:
            sys.exit("it does not answer")
        time.sleep(0.0005)


def call(epmd: str, port: int, *options: str) -> None:
    # Without a timeout: with one, subprocess looks at the process in ever longer steps, 32 ms in the end.
    subprocess.call([epmd, "-port", str(port), *options], stdout=subprocess.DEVNULL)


def timed(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def daemon(epmd: str, port: int) -> float:
    def start() -> None:
        call(epmd, port, "-daemon")
        wait_for(port)

    took = timed(start)
    call(epmd, port, "-kill")
    return took


def foreground(epmd: str, port: int) -> float:
    start = time.perf_counter()
    process = subprocess.Popen([epmd, "-port", str(port)], stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(port)
    took = (time.perf_counter() - start) * 1000
    call(epmd, port, "-kill")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    return took


CALLS = {
    "`-names`": "-names",
    "`-started`": "-started",
    "`-daemon`, one is running": "-daemon",
}
STARTS = {
    "`-daemon` to the first answer": daemon,
    "in the foreground to the first answer": foreground,
}


def row(cell: str, epmds: dict[str, str], measure: Callable[[str], float], rounds: int) -> None:
    """In turns, so that what else the machine does meets all alike."""
    took: dict[str, list[float]] = {name: [] for name in epmds}
    for _ in range(rounds):
        for name, epmd in epmds.items():
            took[name].append(measure(epmd))
    print(f"| {cell} | {' | '.join(f'{statistics.median(times):.0f}' for times in took.values())} |")


def main(executable: str, rounds: int) -> None:
    epmds = {"this one": executable}
    if os.path.exists(C_EPMD):
        epmds["C"] = C_EPMD
    size = os.path.getsize(executable) / 1e6
    print(f"{executable}: {size:.1f} MB; medians of {rounds} alternating rounds, in ms\n")
    print(f"| start-up | {' | '.join(epmds)} |\n|---|{'---|' * len(epmds)}")
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        call(executable, port, "-daemon")
        for cell, option in CALLS.items():
            row(cell, epmds, lambda epmd, option=option: timed(lambda: call(epmd, port, option)), rounds)
        call(executable, port, "-kill")
        for cell, start in STARTS.items():
            row(cell, epmds, lambda epmd, start=start: start(epmd, port), rounds)


if __name__ == "__main__":
    if len(sys.argv) < 2 or not shutil.which(sys.argv[1]):
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 30)

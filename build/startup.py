"""Measure how long an epmd takes to start: startup.py [--rounds=N] [--processor] EXECUTABLE...

Prints a Markdown table of medians over alternating rounds, with C's epmd if it is installed.  Each value is
in milliseconds, and a multiple of the time that this Python takes to start and do nothing
(`python -I -S -c pass`), by which machines can be compared.  An `Epmd` is the beginning of a command line.

--processor measures the processor time of all processes instead, which other load on the machine changes
less.  Only Linux has it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

C_EPMD = "/usr/bin/epmd"
#: For what hangs, in seconds.
PATIENCE = 300.0

#: The first words of a command line.
Epmd = list[str]


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
            sys.exit("the epmd does not answer")
        time.sleep(0.0005)


def call(epmd: Epmd, port: int, *options: str) -> None:
    # A timeout would falsify the result: with one, subprocess polls the process in steps of up to 32 ms.
    subprocess.call([*epmd, "-port", str(port), *options], stdout=subprocess.DEVNULL)


def timed(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def first_answer(epmd: Epmd, port: int, *options: str) -> float:
    """Return the time from the start of the command to the first answer on the socket."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [*epmd, "-port", str(port), *options], stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(port)
    took = (time.perf_counter() - start) * 1000
    if options:
        process.wait()
    call(epmd, port, "-kill")
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return took


def of_children() -> float:
    """Return the milliseconds of processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def processor(action: Callable[[], None]) -> float:
    before = of_children()
    action()
    return of_children() - before


def descendants(pid: int) -> Iterator[int]:
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield child
        yield from descendants(child)


PR_SET_CHILD_SUBREAPER = 36


def first_answer_processor(epmd: Epmd, port: int, *options: str) -> float:
    """Return the processor time until the first answer, of the command and of what it has started."""
    # So this process is the parent of the daemon when the command has ended.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = of_children()
    process = subprocess.Popen([*epmd, "-port", str(port), *options], stderr=subprocess.DEVNULL)
    if options:
        process.wait()
    wait_for(port)
    used = of_children() - before
    running = [*descendants(os.getpid())]
    used += sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in running) / 1e6
    call(epmd, port, "-kill")
    for pid in running:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # it is the child of another one
    return used


def erl(epmd: Epmd, port: int) -> None:
    """Start a node, which starts an epmd if none is running, registers and exits."""
    flags = ["-noshell", "-sname", "startup", "-epmd", shlex.join([*epmd, "-daemon"]), "-eval", "halt()."]
    subprocess.call(["erl", *flags], env=os.environ | {"ERL_EPMD_PORT": str(port)}, stdout=subprocess.DEVNULL)


def first_erl(epmd: Epmd, port: int) -> float:
    took = timed(lambda: erl(epmd, port))
    end = time.monotonic() + PATIENCE
    # C's epmd refuses KILL until it has noticed that the node has gone.
    while answers(port) and time.monotonic() < end:
        call(epmd, port, "-kill")
    return took


def bare_python() -> None:
    subprocess.call([sys.executable, "-I", "-S", "-c", "pass"])


CALLS = {
    "`-names`": "-names",
    "`-started`": "-started",
    "`-daemon`, one is running": "-daemon",
}
STARTS: dict[str, list[str]] = {
    "`-daemon` to the first answer": ["-daemon"],
    "in the foreground to the first answer": [],
}


PYTHON = "bare Python"


def in_turns(
    epmds: dict[str, Epmd], measure: Callable[[Epmd], float], bare: Callable[[], float], rounds: int
) -> dict[str, list[float]]:
    """Measure in turns, so that other load on the machine affects all alike."""
    took: dict[str, list[float]] = {name: [] for name in [PYTHON, *epmds]}
    for _ in range(rounds):
        took[PYTHON].append(bare())
        for name, epmd in epmds.items():
            took[name].append(measure(epmd))
    return took


def measure(
    epmds: dict[str, Epmd], rounds: int, *, by_processor: bool = False
) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Yield each row's title, with the milliseconds that each epmd took in each round."""
    running = next(iter(epmds.values()))
    take = processor if by_processor else timed
    answer = first_answer_processor if by_processor else first_answer
    calls = {
        cell: lambda epmd, option=option: take(lambda: call(epmd, port, option))
        for cell, option in CALLS.items()
    }
    starts = {
        cell: lambda epmd, port, options=options: answer(epmd, port, *options)
        for cell, options in STARTS.items()
    }
    if shutil.which("erl") and not by_processor:
        calls["`erl`, an epmd is running"] = lambda epmd: timed(lambda: erl(epmd, port))
        starts["`erl`, none is running"] = first_erl
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        call(running, port, "-daemon")
        try:
            # C's -daemon returns before it answers.
            wait_for(port)
            for cell, timing in calls.items():
                yield cell, in_turns(epmds, timing, lambda: take(bare_python), rounds)
        finally:
            call(running, port, "-kill")
        for cell, start in starts.items():
            yield (
                cell,
                in_turns(
                    epmds, lambda epmd, start=start: start(epmd, port), lambda: take(bare_python), rounds
                ),
            )


def shown(took: dict[str, list[float]]) -> Iterator[str]:
    """Yield the cells of a row."""
    medians = {name: statistics.median(times) for name, times in took.items()}
    unit = medians.pop(PYTHON)
    yield f"{unit:.0f}"
    yield from (f"{median:.0f} ({median / unit:.2f})" for median in medians.values())


def name_of(executable: str) -> str:
    return "folder" if os.path.isdir(os.path.join(os.path.dirname(executable), "_internal")) else "one file"


def main(executables: list[str], rounds: int, *, by_processor: bool = False) -> None:
    epmds = {name_of(executable): [executable] for executable in executables}
    if os.path.exists(C_EPMD):
        epmds["C"] = [C_EPMD]
    what = "ms of processor time" if by_processor else "ms"
    print(f"Medians of {rounds} alternating rounds, in {what} (and as multiples of a bare Python's start)\n")
    print(f"| start-up | {PYTHON} | {' | '.join(epmds)} |\n|---|---|{'---|' * len(epmds)}")
    for cell, took in measure(epmds, rounds, by_processor=by_processor):
        print(f"| {cell} | {' | '.join(shown(took))} |", flush=True)


if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    executables = [os.path.abspath(argument) for argument in sys.argv[1:] if argument not in options]
    rounds = [int(option.partition("=")[2]) for option in options if option.startswith("--rounds=")]
    if not executables or not all(map(shutil.which, executables)):
        sys.exit(__doc__)
    main(executables, *(rounds[-1:] or [30]), by_processor="--processor" in options)

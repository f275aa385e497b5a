"""Measure the C epmd and ours under the same load, in turns.

usage: bench [options]

A cell is called like "lookup, Erlang's client, 1,000 nodes, 8 at a time", or without "Erlang's client",
where a C program asks; the others are unknown, register and names, "start of a node, 8 at a time", and
"startup". Prints Markdown. The servers run on the first core, who asks on the last. Needs cc, erl and erlc.

options:
    --ours FORM      source, built or folder [default: source].
    --beside PYTHON  Measure the source with this Python too. It needs gevent and docopt-ng. For that of
                     Debian: `/usr/bin/python3 -m venv FOLDER`, which needs python3-venv, then
                     `FOLDER/bin/pip install gevent docopt-ng`, and --beside FOLDER/bin/python.
    --rounds N       How often each cell is measured on each epmd [default: 5].
    --seconds S      How long each time [default: 1].
    --quick          A look: 2 rounds of 0.05 s, and few starts.
    --only PATTERN   Only cells with this in what they are called [default: ].
    --json=FILE      Write every round there.
    --write-docs     Write docs/benchmarks; when the machine has nothing else to do: what others take of
                     a core is missing in the throughput, though hardly in the CPU time. The page says how
                     much that was.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from docopt import docopt

import startup
from bench import load, report
from bench.cells import START_ROUNDS, STARTS, Cores, cells, measure, measure_starts, starts
from support.asked import choice, number
from support.forms import PROGRAMS, C, Process, Source
from support.paths import C_EPMD, ROOT

DOCS = ROOT / "docs" / "benchmarks"
STARTUPS = 15


#: Prints which Python it is.  Debian's are compiled with profiles and optimised as a whole; a Python that is
#: compiled with the defaults is slower.
WHICH = """
import platform, sys
from importlib.metadata import version
whose = "the system's" if sys.base_prefix == "/usr" else "not the system's"
print(f"Python {platform.python_version()}, {whose}; gevent {version('gevent')}")
"""


@functools.cache
def which(python: str) -> str:
    """What is known of a Python, as a text; ends the program where it cannot run an epmd."""
    try:
        done = subprocess.run(
            [python, "-c", f"import gevent, docopt\n{WHICH}"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        sys.exit(f"bench: --beside: {python}: {error.strerror}")
    if done.returncode:
        sys.exit(f"bench: --beside: {python} has no gevent, or no docopt-ng")
    return done.stdout.strip()


def short(python: str) -> str:
    """The beginning of what `which` says: the version, and whose it is."""
    return python.partition(";")[0]


def beside(python: str) -> type[Process]:
    # The source here, whatever is installed there.
    environ = ("/usr/bin/env", f"PYTHONPATH={ROOT / 'lib'}")
    return type("Beside", (Source,), {"command": (*environ, python, *Source.command[1:])})


def about(arguments: list[str], form: str, other: str) -> dict[str, str]:
    """What the numbers hold for.  Nothing that names the machine."""
    cores = Cores.found()
    linux = platform.release().partition("-")[0]  # what follows is whose it is
    found = {
        "command": command_line(arguments),
        "date": datetime.date.today().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {processor()}, Linux {linux}",
        "cores": f"servers on {cores.server}, who asks on {cores.load}",
        "C": f"epmd of {erts_version()}",
        "ours": f"{metadata.version('gevent-epmd')}, {form}; {which(sys.executable)}",
    }
    return found | ({"beside": f"the same, source; {which(other)}"} if other else {})


def command_line(arguments: list[str]) -> str:
    """Without what says only where the results went, and where somebody keeps a Python."""
    kept = [argument for argument in arguments if not argument.startswith(("--json", "--beside="))]
    kept += ["--beside=PYTHON" for argument in arguments if argument.startswith("--beside=")]
    return shlex.join(["scripts/bench", *kept])


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def erts_version() -> str:
    """As Debian calls it, unless EPMD_C names another; elsewhere nobody knows which erts an epmd is of."""
    if os.environ.get("EPMD_C"):
        return f"OTP {C.otp()}"
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}", "erlang-base"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "an unknown version"


def startup_times(command: list[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    found = {}
    for cell, took in startup.measure({"C": [C_EPMD], "ours": command}, rounds):
        print(f"start-up: {cell}", file=sys.stderr, flush=True)
        found[cell] = took
    return found


def main(arguments: list[str]) -> None:
    asked = docopt(__doc__, argv=arguments)
    form = PROGRAMS[choice("bench: --ours", asked["--ours"], PROGRAMS)]
    rounds = number("bench: --rounds", asked["--rounds"], int)
    seconds, startups = number("bench: --seconds", asked["--seconds"], float), STARTUPS
    start_count, start_rounds = STARTS, START_ROUNDS
    if asked["--quick"]:
        rounds, seconds, startups, start_count, start_rounds = 2, 0.05, 1, 2, 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pattern = asked["--only"]
    chosen, chosen_starts = cells(pattern), starts(pattern)
    if pattern not in "startup" and not chosen and not chosen_starts:
        sys.exit(f'bench: no cell has "{pattern}" in what it is called')
    other = asked["--beside"] or ""
    ours = {"ours": form} | ({"beside": beside(other)} if other else {})
    pythons = {"ours": sys.executable} | ({"beside": other} if other else {})
    results: report.Results = {
        "about": about(arguments, asked["--ours"], other),
        "pythons": {name: short(which(python)) for name, python in pythons.items()},
        "how": {"rounds": rounds, "seconds": seconds, "pause": load.PAUSE * 1e6},
        "scenes": measure(chosen, ours, rounds, seconds),
        "starts": measure_starts(chosen_starts, ours, start_count, start_rounds),
        "startup": startup_times([*form.command], startups) if pattern in "startup" else {},
    }
    print(report.page(results))
    if asked["--json"]:
        Path(asked["--json"]).write_text(json.dumps(results, indent=1), encoding="utf-8")
    if asked["--write-docs"]:
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / "README.md").write_text(report.page(results), encoding="utf-8")
        (DOCS / "throughput.svg").write_text(report.chart(results), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

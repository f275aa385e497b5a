"""What scripts/try-newest does inside its root, once with this host's network and once without.

With it: `scripts/run`, `scripts/build`, and all that the tests and the services need is installed.
Without: the tests, and the services.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from support.patience import LONG

from . import report, services
from .steps import CHECKOUT, RECORDS, Failed, Log, Seen, Step, as_record, last_line, record, step, wait_until

WHEELS = RECORDS / "wheels"
PYTHON = str(CHECKOUT / ".venv" / "bin" / "python")
#: pytest's, of a run whose options select no test.
NO_TESTS = 5
ERLANG = "/usr/lib/erlang"


def online() -> list[Step]:
    """The first thing that a user does, and then all downloads."""
    return [step(name, action) for name, action in ONLINE.items()]


def offline() -> list[Step]:
    there = [service for service in services.SERVICES if version(service.package)]
    return [
        step("scripts/test", run_tests),
        *(step(one.package, partial(on_ours, one)) for one in there),
        *(step(f"take-over from C's under {one.package}", partial(taken_over, one)) for one in there),
    ]


def try_run(log: Log) -> Seen:
    """It serves, and a second one that asks gets an answer."""
    with tempfile.TemporaryDirectory() as folder, log.path.open("ab") as output:
        port_file = Path(folder) / "port"
        command = ["scripts/run", "-port", "0", "-port_file", str(port_file)]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)
        try:
            wait_until(lambda: port_file.exists() or process.poll() is not None, "it to serve", 2 * LONG)
            if process.poll() is not None:
                raise Failed(f"it ended with {process.returncode}: {last_line(log.path.read_text())}")
            log.run("scripts/run", "-port", port_file.read_text().strip(), "-names")
        finally:
            process.terminate()
            process.wait()
    return Seen("it serves, and one that asks is answered")


def try_build(log: Log) -> Seen:
    log.run("scripts/build", "--quiet")
    executable = CHECKOUT / "dist" / "epmd"
    return Seen(f"an executable of {executable.stat().st_size / 1e6:.1f} MB, which serves")


def prepare_tests(log: Log) -> Seen:
    log.run("scripts/test", "-k", "nothing_at_all", expect=NO_TESTS)
    pip = [PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    log.run(*pip, "--require-hashes", "-r", "build/locks/test.txt", "-d", str(WHEELS))
    # Where there is no wheel of it for this Python, the test that wants it says so.
    log.call(*pip, "--no-deps", "--only-binary=:all:", "-d", str(WHEELS), f"gevent=={oldest_gevent()}")
    return Seen("what the tests need is installed")


def oldest_gevent() -> str:
    """That pyproject.toml allows."""
    return re.findall(r"gevent>=([\d.]+)", (CHECKOUT / "pyproject.toml").read_text())[0]


def install_services(log: Log) -> Seen:
    wanted = [service.package for service in services.SERVICES]
    there = [package for package in wanted if "\n  Candidate: " in log.run("apt-cache", "policy", package)]
    if there:
        apt = ["apt-get", "install", "-qy", "--no-install-recommends"]
        log.run(*apt, *there, DEBIAN_FRONTEND="noninteractive")
    return Seen(", ".join(there) or "none")


ONLINE = {
    "scripts/run": try_run,
    "scripts/build": try_build,
    "set-up of the tests": prepare_tests,
    "installation of services": install_services,
}


def run_tests(log: Log) -> Seen:
    """All of them; nothing that they need may be missing."""
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)}
    status, said = log.call("scripts/test", CI="true", **offline)
    details = tuple(re.findall(r"^(?:FAILED|ERROR|SKIPPED|XPASS) .*", said, re.MULTILINE))
    counts = re.findall(r"^=+ (.*) in .* =+$", said, re.MULTILINE)
    if status or not counts:
        last = last_line(said)
        raise Failed("; ".join([*counts[-1:], *([] if last.startswith("=") else [last])]), details)
    return Seen(counts[-1], details)


def on_ours(service: type[services.RabbitMQ] | type[services.Ejabberd], log: Log) -> Seen:
    """The executable takes the place of C's while the service is tried."""
    services.end_mapper()
    log.run("scripts/install", "--erlang", ERLANG)
    try:
        return services.play(service, log)
    finally:
        services.end_mapper()
        log.run("scripts/install", "--uninstall", "--erlang", ERLANG)


def taken_over(service: type[services.RabbitMQ] | type[services.Ejabberd], log: Log) -> Seen:
    """C's epmd is in its place, and the executable takes over from it."""
    services.end_mapper()
    try:
        return services.take_over(service, log)
    finally:
        services.end_mapper()


def version(package: str) -> str:
    """Upstream's; "" where the package is not installed."""
    query = ["dpkg-query", "-W", "-f", "${Version}", package]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", done.stdout)
    return found[1] if found else ""


def versions() -> dict[str, str]:
    python = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=False).stdout
    return {
        "Python": python.removeprefix("Python ").strip(),
        "Erlang/OTP": version("erlang-base"),
        "Elixir": version("elixir"),
        "RabbitMQ": version("rabbitmq-server"),
        "ejabberd": version("ejabberd"),
        "glibc": platform.libc_ver()[1],
        "systemd": version("systemd"),
    }


def main(phase: str, path: Path) -> int:
    """Run a phase, add to the record at `path`, and print that at its end; gives the exit status."""
    steps = {"online": online, "offline": offline}[phase]()
    status = 0 if all(one.passed for one in steps) else 1
    record(path, {phase: as_record(steps)})
    record(path, {"versions": versions(), "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"})
    if status or phase == "offline":
        known = report.read([str(path)])
        sys.stdout.write(f"{report.table(known)}\n{report.details(known)}")
    return status


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

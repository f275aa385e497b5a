"""A root in which packages are installed, with processes and a network of its own.

The maintainer scripts of erlang-base end every epmd that they see, and those of the package look at all
processes, so nothing here may run beside the processes of the host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.patience import LONG, PATIENCE

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "ERL_CRASH_DUMP": "/dev/null",
}
#: By scripts/_root; what it ends with is process 1 of the root, and reaps.
_BOOT = """\
. "$1/scripts/_environment"
. "$1/scripts/_root"
in_root own "$2" sh -c 'echo entered; while :; do sleep 3600; done'
"""
#: The same with the root's systemd as process 1, in a cgroup of its own.
_BOOT_SYSTEMD = """\
. "$1/scripts/_environment"
. "$1/scripts/_root"
mount -t tmpfs tmpfs /mnt
mkdir /mnt/cgroup
mount -t cgroup2 cgroup /mnt/cgroup
mkdir "/mnt/cgroup/$3"
echo $$ >"/mnt/cgroup/$3/cgroup.procs"
umount /mnt/cgroup /mnt
in_root own "$2" exec sh -c 'echo entered; exec env container=test /lib/systemd/systemd --system'
"""
_REMOVE_CGROUP = """\
mount -t cgroup2 cgroup /mnt
until find "/mnt/$1" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.1; done
"""
#: An overlay of the host's own root: what happens in it changes nothing of the host's.
OVERLAY = """\
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/root"
set -- "$1" "$2/root"
"""


class RootFailed(Exception):
    """A command in a root, with another status than was expected."""


@dataclass(frozen=True)
class Done:
    """How a command in a root ended."""

    status: int
    output: str


class Root:
    """A running root; commands are run in it as root."""

    def __init__(self, pid: int, log: Path) -> None:
        self._pid = pid
        self._log = log

    def call(self, script: str, *arguments: str, patience: float = LONG) -> Done:
        """Run a script of sh; gives its status, and what it has printed on both outputs."""
        kinds = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd"]
        enter = ["nsenter", f"--target={self._pid}", *kinds]
        command = [*enter, "sh", "-c", script, "sh", *arguments]
        with self._log.open("ab") as log:
            log.write(f"$ {script} {' '.join(arguments)}\n".encode())
            log.flush()
            start = self._log.stat().st_size
            # A file, not a pipe: what the script starts may hold it open.
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                timeout=patience,
                check=False,
            ).returncode
        return Done(status, self._log.read_bytes()[start:].decode(errors="replace"))

    def run(self, script: str, *arguments: str, patience: float = LONG) -> str:
        """As `call`, but raises RootFailed for another status than 0."""
        done = self.call(script, *arguments, patience=patience)
        if done.status:
            raise RootFailed(f"{script} {' '.join(arguments)}: status {done.status}\n{done.output}")
        return done.output

    def put(self, path: Path, to: str) -> None:
        """Copy a file of this host."""
        shutil.copy(path, f"/proc/{self._pid}/root{to}")

    def only(self, program: str) -> int:
        """The one process of this program, once its parent has ended, from which a daemon comes."""
        self.until(f"[ $(pgrep -cx {program}) = 1 ]")
        return int(self.run(f"pgrep -x {program}"))

    def until(self, script: str, patience: float = PATIENCE) -> None:
        """Wait until this has status 0."""
        end = time.monotonic() + patience
        while self.call(script).status:
            if time.monotonic() > end:
                last = self._log.read_text()[-2000:]
                raise RootFailed(f"waited {patience:.0f} s in vain for: {script}\n{last}")
            time.sleep(0.1)


@contextlib.contextmanager
def entered(folder: Path, log: Path, *, overlay: bool = False, systemd: bool = False) -> Iterator[Root]:
    """The root in a folder; or, as overlay, this host's root, with the folder for what is changed.

    With systemd, that has been started there, and services are.  Raises RootFailed where this host does not
    allow it."""
    script = "set -e\n" + (OVERLAY if overlay else "") + (_BOOT_SYSTEMD if systemd else _BOOT)
    cgroup = f"test-{os.getpid()}-{folder.name}"
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", script, "bash", str(ROOT), str(folder), cgroup],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        root = Root(_process_1(process, log, start), log)
        if systemd:
            root.until("systemctl is-system-running | grep -x -e running -e degraded")
        yield root
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and with unshare all that is in the root
        process.wait()
        if systemd:
            subprocess.run(
                ["unshare", "--mount", "sh", "-e", "-c", _REMOVE_CGROUP, "sh", cgroup],
                check=True,
                timeout=PATIENCE,
            )


def _process_1(process: subprocess.Popen, log: Path, start: int) -> int:
    end = time.monotonic() + PATIENCE
    while b"entered\n" not in log.read_bytes()[start:]:
        if process.poll() is not None or time.monotonic() > end:
            raise RootFailed(log.read_text()[-2000:])
        time.sleep(0.02)
    pid = process.pid
    while not _is_process_1(pid):
        (pid,) = _children(pid)
    return pid


def _is_process_1(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("NSpid:")).split()[2:] == ["1"]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def copied(base: Path, folder: Path) -> Path:
    """A copy of a root that is not entered."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", "-T", base, folder], check=True)
    return folder

"""A copy of the checkout in which one fault at a time is planted, with a Python that imports the copy.

The copy has a virtual environment of its own, almost empty: it names the packages of .venv, but not the link
there that leads to lib/ in the checkout.  PYTHONPATH would not do in its place, because tests start programs
with environments of their own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from plant.fault import Fault
from support.paths import ROOT
from support.patience import wait_until
from support.procfs import command_line, processes

#: What the tests need of the checkout, besides the installed packages.
_COPIED = ("LICENSE", "build", "docs", "epmd.py", "lib", "pyproject.toml", "scripts", "tests")
_PYTEST = ("-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "--hypothesis-seed=0")
_VERSION = "lib/gevent_epmd/__init__.py"


class Outcome(NamedTuple):
    """What came of a call of pytest.  `status` is None where it took too long, and was ended."""

    status: int | None
    said: str


class Tree:
    """A copy of the checkout in this folder, which must not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changes = 0
        folder.mkdir(parents=True)
        for name in _COPIED:
            _copy(ROOT / name, folder / name)
        venv.create(folder / ".venv", symlinks=True)
        self._python = str(folder / ".venv" / "bin" / "python")
        paths = f"{folder}/lib\n{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n"
        Path(self._packages(), "planted.pth").write_text(paths)

    def _packages(self) -> str:
        script = "import sysconfig; print(sysconfig.get_path('purelib'))"
        done = subprocess.run([self._python, "-I", "-c", script], capture_output=True, check=True, text=True)
        return done.stdout.strip()

    def check(self) -> None:
        """Raise AssertionError unless the copy is what the tests, and the programs that they start, run."""
        mark = Fault("", _VERSION, "__version__ = ", "__version__ = 'planted' or ", "")
        package = "import gevent_epmd; print(gevent_epmd.__file__)"
        with self.with_fault(mark):
            for command, expected in (
                (["-c", package], str(self._folder / _VERSION)),
                ([str(self._folder / "epmd.py"), "--version"], "epmd planted"),
                (["-m", "gevent_epmd", "--version"], "epmd planted"),
            ):
                said = subprocess.run(
                    [self._python, *command], cwd="/", env=_environment(), capture_output=True, text=True
                )
                assert said.stdout.strip() == expected, (command, said.stdout, said.stderr)

    @contextlib.contextmanager
    def with_fault(self, fault: Fault) -> Iterator[None]:
        path = self._folder / fault.path
        right = path.read_text(encoding="utf-8")
        assert right.count(fault.old) == 1, fault
        try:
            self._write(path, fault.planted(right))
            yield
        finally:
            self._write(path, right)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # What Python has compiled is told from what it has not by size and second.
        self._changes += 1
        os.utime(path, (self._changes, self._changes))

    def test(self, path: str, expression: str, patience: float) -> Outcome:
        """Run these tests; with an expression of nothing, all of the file."""
        command = [self._python, "-m", "pytest", *_PYTEST, "-x", path]
        command += ["-k", expression] if expression else []
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            try:
                status = process.wait(patience)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                self._end_what_is_left()
            said.seek(0)
            return Outcome(status, said.read().decode(errors="replace"))

    def _end_what_is_left(self) -> None:
        """A broken program may leave daemons behind; all that run from this copy have its folder in their
        command line."""
        mark = f"{self._folder}/".encode()

        def end() -> bool:
            left = [pid for pid in processes() if mark in command_line(pid)]
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(end, "what a test has left behind to end")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(
            source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    else:
        shutil.copy2(source, target)


def _environment() -> dict[str, str]:
    unwanted = re.compile("CI$|COVERAGE_|EPMD_(?!SLOWNESS)|ERL_|LISTEN_|NOTIFY_SOCKET$|PYTEST_|PYTHON")
    return {name: value for name, value in os.environ.items() if not unwanted.match(name)}

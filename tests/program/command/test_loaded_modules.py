"""Which modules a process has loaded once it has imported one of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.paths import ROOT
from support.programs import run

NO_IO = ("socket", "_socket", "gevent", "select", "asyncio")


#: What must not be imported by whom: I/O by what decides, and gevent by what every node's start pays for.
IMPORTS = {
    "gevent_epmd.protocol": NO_IO,
    "gevent_epmd.server.registry": NO_IO,
    "gevent_epmd.program.options": NO_IO,
    "gevent_epmd.server.log": NO_IO,
    "gevent_epmd.client": ("gevent", "greenlet", "asyncio", "resource", "syslog"),
    "gevent_epmd.program.cli": ("gevent", "greenlet", "asyncio", "resource", "syslog", "os"),
    # What a quick line imports besides, in the one-file form and as the child of process 1.
    "gevent_epmd.program.executable.launcher": ("os",),
    "gevent_epmd.program.process.signals": ("os",),
    "gevent_epmd.program.executable.leftovers": ("re", "enum"),
    "gevent_epmd.program.start": ("gevent", "docopt", "re", "typing", "traceback", "enum", "signal"),
    "gevent_epmd.program.run": [
        *("docopt", "typing", "tokenize", "contextlib", "enum", "socket", "selectors"),
        # What -check alone needs.
        *(f"gevent_epmd.program.{name}" for name in ("check", "probe", "procfs", "findings", "report")),
    ],
}


@pytest.mark.parametrize("module", IMPORTS)
def test_imports(module: str) -> None:
    code = (
        "import sys, standins; standins.install()\n"
        f"import {module}; print(*(m for m in {IMPORTS[module]} if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=bare_path(), capture_output=True, check=True
    )
    assert done.stdout.split() == []


def bare_path() -> dict[str, str]:
    """No site module: it may import anything, and does so for an editable install or for coverage."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    return {"PYTHONPATH": f"{ROOT / 'build'}:{ROOT / 'lib'}:{packages}"}


ALL = """
import importlib, pkgutil, gevent_epmd
for module in pkgutil.walk_packages(gevent_epmd.__path__, "gevent_epmd."):
    importlib.import_module(module.name)
"""


@pytest.mark.measured
def test_importing_all_of_them_prints_nothing() -> None:
    done = run([sys.executable, "-W", "error", "-c", ALL])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


CLIENTS = """
import asyncio, sys
from gevent_epmd import aio, client
print(client.started(port=1), asyncio.run(aio.started(port=1)), 'gevent' in sys.modules)
"""


def test_clients_need_no_other_package() -> None:
    """So a program that only asks may be installed without gevent."""
    done = run([sys.executable, "-S", "-c", CLIENTS], environ={"PYTHONPATH": str(ROOT / "lib")})
    assert (done.stdout, done.stderr) == (b"False False False\n", b"")

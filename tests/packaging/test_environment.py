"""scripts/_environment: what the scripts do about what a host's Python has not got."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.forms import ROOT, run

VERSION = "{}.{}".format(*sys.version_info)

#: A Python as Debian's, without the part of venv that brings pip.
PYTHON = f"""#!/bin/sh
[ "$1" = -c ] || exit 5
shift
exec {sys.executable} -c '
import sys
code = sys.argv.pop(1)
sys.base_prefix = "$PREFIX"
sys.modules["ensurepip"] = None
exec(code)' "$@"
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder with programs: an apt-get that keeps what it was asked for, and root's id."""
    programs = {
        "apt-get": f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n',
        "id": "#!/bin/sh\necho 0\n",
        "debian-python": PYTHON.replace("$PREFIX", "/usr"),
        "other-python": PYTHON.replace("$PREFIX", "/opt/python"),
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def source(host: Path, call: str) -> subprocess.CompletedProcess[bytes]:
    """Calls a function of scripts/_environment, in a shell that is named after the script "try"."""
    script = f'set -euo pipefail; PATH="{host}:$PATH"; . "$1"; venv="{host}/venv"; {call}'
    return run(["bash", "-c", script, "try", str(ROOT / "scripts" / "_environment")])


def test_venv_package_is_the_one_of_this_version(host: Path) -> None:
    done = source(host, "make_venv debian-python")
    assert done.stderr.endswith(f"try: debian-python could not make {host}/venv\n".encode()), (
        "nothing came of it"
    )
    assert f" python{VERSION}-venv\n" in (host / "asked").read_text()


def test_venv_of_another_python_is_nothing_that_debian_has(host: Path) -> None:
    done = source(host, "make_venv other-python")
    assert (done.returncode, done.stderr) == (1, b"try: other-python cannot make virtual environments\n")
    assert not (host / "asked").exists()


@pytest.mark.parametrize("name", ["libpython%s", "python%s-dev"])
def test_debian_package(host: Path, name: str) -> None:
    done = source(host, f"debian_package debian-python {name}")
    assert done.stdout.decode() == name.replace("%s", VERSION) + "\n"
    assert source(host, f"debian_package other-python {name}").returncode == 1

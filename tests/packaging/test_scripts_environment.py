"""scripts/_environment: which Pythons the scripts accept, and which packages of Debian they ask for.

An unsupported Python is refused before anything is changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import startup
from support.paths import BUILT, FOLDER, ROOT
from support.programs import real, run

PYTHONS = (ROOT / "build" / "pythons").read_text().split()
RANGE = f"Python {PYTHONS[0]} to {PYTHONS[-1]}"

#: Runs a program from its stdin, as `python -` does, after changing what this Python says of itself.
PLAYED = """\
#!/bin/sh
exec {python} -c 'import sys, sysconfig
sys.argv = sys.argv[1:]
{change}
exec(sys.stdin.read())' "$@"
"""
OLD = "sys.version_info = (3, 10, 13)"
NEW = "sys.version_info = (3, 99, 0)"
FREE_THREADED = 'sysconfig.get_config_var = {"Py_GIL_DISABLED": 1}.get'
APT_GET = """\
#!/bin/sh
touch "$0.was-called"
exit 1
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the scripts need of a checkout, without a virtual environment; `bin` beside it is all of PATH."""
    folder = tmp_path / "a checkout"
    for name in ("scripts", "build"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (tmp_path / "bin").mkdir()
    write_script(tmp_path / "bin" / "apt-get", APT_GET)
    for tool in ("bash", "cat", "dirname", "basename", "readlink", "flock", "mkdir", "grep", "touch", "sh"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return folder


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def call(checkout: Path, script: str, **environ: str):
    environ = {"PATH": str(checkout.parent / "bin"), "PYTHON": ""} | environ
    return run([str(checkout / "scripts" / script)], environ=environ)


@pytest.mark.parametrize("script", ["run", "test", "build"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [(OLD, "it is Python 3.10"), (NEW, "it is Python 3.99"), (FREE_THREADED, "it is a free-threaded build")],
    ids=["old", "new", "free-threaded"],
)
def test_unsupported_python_is_refused_first(checkout: Path, script: str, change: str, reason: str) -> None:
    python = checkout.parent / "some python"
    write_script(python, PLAYED.format(python=sys.executable, change=change))
    done = call(checkout, script, PYTHON=str(python))
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"{script}: PYTHON={python} cannot be used: {reason}")
    assert line.endswith(f"set it to a {RANGE}")
    assert done.returncode == 1
    assert nothing_was_changed(checkout)


def test_program_that_is_no_python_is_refused(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    done = call(checkout, "run", PYTHON=shutil.which("true"))
    assert b"cannot be used: it is not Python" in done.stderr
    assert done.returncode == 1
    assert (checkout / ".venv").exists()


def test_no_supported_python(checkout: Path) -> None:
    write_script(checkout.parent / "bin" / "python3", PLAYED.format(python=sys.executable, change=OLD))
    done = call(checkout, "test")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"test: no {RANGE} found: install one")
    assert done.returncode == 1
    assert nothing_was_changed(checkout)


def nothing_was_changed(checkout: Path) -> bool:
    return not (checkout / ".venv").exists() and not (checkout.parent / "bin" / "apt-get.was-called").exists()


def test_one_range_of_pythons() -> None:
    """build/pythons is what the scripts and setup.py read; these cannot."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["mypy"]["python_version"] == PYTHONS[0]
    assert settings["tool"]["ruff"]["target-version"] == "py" + PYTHONS[0].replace(".", "")
    of_a_python = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    classified = map(of_a_python.fullmatch, settings["project"]["classifiers"])
    assert [match[1] for match in classified if match] == PYTHONS
    for document in ("README.md", "docs/testing.md"):
        assert RANGE in (ROOT / document).read_text(encoding="utf-8"), document


def test_this_python_is_supported() -> None:
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in PYTHONS, os.environ.get("PYTHON")


def test_start_up_is_shown_as_multiples(monkeypatch, capsys) -> None:
    """A test of scripts/bench measures the whole table."""
    took = {startup.PYTHON: [9.0, 10.0, 30.0], "one file": [17.0], "folder": [9.0], "C": [2.0]}
    monkeypatch.setattr(startup, "measure", lambda _epmds, _rounds, **_by: [("`-names`", took)])
    startup.main([real(BUILT), real(FOLDER)], 1)
    _, _, header, _, row = capsys.readouterr().out.splitlines()
    assert header.startswith("| start-up | bare Python | one file | folder |")
    assert row == "| `-names` | 10 | 17 (1.70) | 9 (0.90) | 2 (0.20) |"


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


def test_packages_of_the_system_can_be_declined(host: Path) -> None:
    assert source(host, "EPMD_NO_APT=1 apt_install sl").returncode == 1
    assert source(host, f"EPMD_NO_APT=1 apt_unpack {host}/sl sl").returncode == 1
    assert not (host / "asked").exists()
    source(host, "EPMD_NO_APT= apt_install sl")
    assert (host / "asked").exists()


def test_packages_are_unpacked_all_or_none(host: Path) -> None:
    """Without any package that they depend on."""
    script = '#!/bin/sh\n[ "$1" != download ] || { shift 2; for name; do touch "$name.deb"; done; }\n'
    write_script(host / "apt-get", script)
    write_script(host / "dpkg", '#!/bin/sh\necho "$2" >>"$3/unpacked"; [ "$2" != broken.deb ]\n')
    assert source(host, f"apt_unpack {host}/tools one broken").returncode == 1
    assert not (host / "tools").exists()
    assert source(host, f"apt_unpack {host}/tools one two").returncode == 0
    assert (host / "tools" / "unpacked").read_text() == "one.deb\ntwo.deb\n"

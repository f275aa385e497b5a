"""The wheel and the sdist: what they hold, and that what they bring works where nothing else is."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support import markdown
from support.paths import ROOT
from support.patience import LONG
from support.programs import real, run
from support.types import pyright

#: In CI there is a network, and each of these is there.
IN_CI = bool(os.environ.get("CI"))
SUPPORTED = (ROOT / "build" / "pythons").read_text().split()
#: Those of the package, with few examples; those of the tools, and which module imports which, are the same
#: everywhere.
UNIT_TESTS = [
    *(
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("tests/unit/test_*.py"))
        if "from gevent_epmd" in path.read_text() and path.name != "test_imports.py"
    ),
    "--hypothesis-profile=few",
]
EXAMPLE = ROOT / "tests" / "examples" / "pytest_project"
CONSTRAINTS = ROOT / "build" / "constraints.txt"


def tracked(*under: str) -> set[str]:
    """The files of the project, by git where this is a checkout."""
    done = subprocess.run(["git", "ls-files", *under], cwd=ROOT, capture_output=True, check=False, text=True)
    if done.returncode:
        pytest.skip("this is no checkout")
    return set(done.stdout.splitlines())


def build(what: str, source: Path, to: Path) -> Path:
    """Build a wheel or an sdist as pip does, and give its path."""
    script = f"from setuptools import build_meta; print(build_meta.build_{what}({str(to)!r}))"
    done = run([sys.executable, "-c", script], cwd=source, timeout=LONG)
    assert done.returncode == 0, done.stderr.decode()
    return to / done.stdout.decode().split()[-1]


@pytest.fixture(scope="session")
def sdist(made) -> Path:
    """Of a copy, so that nothing is left in the checkout, and nothing untracked gets into it."""

    def make(folder: Path) -> None:
        copy = folder / "checkout"
        for name in tracked():
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy / name)
        build("sdist", copy, folder)

    return next(made.once("sdist", make).glob("*.tar.gz"))


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    """A copy of the test's own: what is built in it, and what pytest leaves, is in nobody's way."""
    assert run([real("tar"), "-xf", str(sdist), "-C", str(tmp_path)]).returncode == 0
    return next(tmp_path.glob("gevent_epmd-*"))


@pytest.fixture(scope="session")
def wheel(made, sdist: Path) -> Path:
    """Of the sdist, as pip would."""

    def make(folder: Path) -> None:
        assert run([real("tar"), "-xf", str(sdist), "-C", str(folder)]).returncode == 0
        build("wheel", next(folder.iterdir()), folder)

    return next(made.once("wheel", make).glob("*.whl"))


def test_contents_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = {name for name in names if ".dist-info/" in name}
        entry_points = archive.read(next(n for n in info if n.endswith("entry_points.txt"))).decode()
        metadata = archive.read(next(n for n in info if n.endswith("METADATA"))).decode()
    assert names - info == {name.removeprefix("lib/") for name in tracked("lib")}
    assert "gevent_epmd/py.typed" in names
    assert any(name.endswith("/LICENSE") for name in info)
    assert entry_points.split("\n\n") == [
        "[console_scripts]\nepmd = gevent_epmd.program.cli:main",
        "[pytest11]\ngevent_epmd = gevent_epmd.testing.plugin\n",
    ]
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert [line for line in required if "extra ==" not in line] == [
        "Requires-Dist: gevent>=24.10.1",
        "Requires-Dist: docopt-ng>=0.9",
    ]


def test_contents_of_the_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {name for name in names if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    assert names - made == tracked() - {".gitignore"}


def pythons() -> list[str]:
    """The supported Pythons that are here, among pyenv's or on PATH: a command each, the oldest first."""
    found = (next(filter(works, commands(version)), None) for version in SUPPORTED)
    return [command for command in found if command]


def commands(version: str) -> list[str]:
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return [sys.executable]
    pyenv = os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"
    # On PATH pyenv has a program that takes long to say that it leads nowhere.
    return [*glob.glob(f"{pyenv}/versions/{version}.*/bin/python{version}"), f"python{version}"]


def works(command: str) -> bool:
    if command == sys.executable:
        return True
    return bool(shutil.which(command)) and run([command, "-c", "import ssl, venv"]).returncode == 0


def version_of(command: str) -> str:
    done = run([command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    return done.stdout.decode().strip()


PYTHONS = pythons()


@pytest.fixture(scope="session", params=["oldest", "newest"])
def python(request) -> str:
    if request.param == "newest" and len(PYTHONS) == 1:
        pytest.skip(f"only one supported Python is here: put others of {', '.join(SUPPORTED)} on PATH")
    return PYTHONS[0 if request.param == "oldest" else -1]


def install(python: str, *what: str) -> None:
    """By uv, in a tenth of pip's time; where uv does not reach the index, by the pip that is here."""
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--no-cache", "--python", python]
    if shutil.which(uv[0]) and run([*uv, "--quiet", *what], timeout=LONG).returncode == 0:
        return
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-compile"]
    done = run(
        [*pip, "--quiet", "--no-warn-conflicts", "--disable-pip-version-check", "--retries", "1", *what],
        timeout=LONG,
    )
    if done.returncode and not IN_CI and b"connection broken" in done.stderr:
        pytest.skip("the packages are out of reach: no network")
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="session")
def installed(python: str, wheel: Path, made) -> Path:
    """A fresh environment with the package, what its tests need, and nothing of the checkout.

    That pip installs the wheel beside what is locked, and nothing else, test_release shows; that one is built
    of the source, test_ci_examples.
    """

    def make(folder: Path) -> None:
        assert run([python, "-m", "venv", "--without-pip", str(folder)], timeout=LONG).returncode == 0
        packages = (str(wheel), "pytest", "hypothesis")
        install(str(folder / "bin" / "python"), "-c", str(CONSTRAINTS), *packages)

    return made.once(f"installed-{version_of(python)}", make) / "bin"


@pytest.mark.slow(10)
def test_entry_points(installed: Path, tmp_path: Path) -> None:
    """That of the plugin, test_sample_project needs."""
    version = run([str(installed / "epmd"), "--version"], cwd=tmp_path)
    assert version.stdout.startswith(b"epmd "), version.stderr
    assert (
        run([str(installed / "python"), "-m", "gevent_epmd", "--version"], cwd=tmp_path).stdout
        == version.stdout
    )


@pytest.mark.slow(10)
@pytest.mark.parametrize(
    ("python", "tests"),
    # Erlang's nodes are the same for both.
    [("oldest", ()), ("newest", ("test_client.py",))],
    ids=["oldest", "newest"],
    indirect=["python"],
)
def test_sample_project(installed: Path, tests: tuple[str, ...], tmp_path: Path) -> None:
    project = shutil.copytree(EXAMPLE, tmp_path / "project")
    path = {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    done = run([str(installed / "pytest"), "-q", *tests], cwd=project, environ=path, timeout=LONG)
    assert done.returncode == 0, done.stdout.decode()
    assert b"passed" in done.stdout
    if IN_CI:
        assert b"skipped" not in done.stdout


#: Where it is the one that runs this, its unit tests run anyway.
OTHERS = [
    which for which, command in (("oldest", PYTHONS[0]), ("newest", PYTHONS[-1])) if command != sys.executable
]


def run_tests_of_the_sdist(python: str, unpacked: Path, tests: list[str], **environ: str) -> None:
    """Without the checkout, and without a program that is not Python's."""
    # In CI what is not there must be there; here it must not be needed.
    environ |= {"PATH": str(Path(python).parent), "CI": ""}
    pytest_there = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = run(pytest_there, cwd=unpacked, environ=environ, timeout=LONG)
    assert done.returncode == 0, done.stdout.decode()
    assert b" passed" in done.stdout


@pytest.mark.slow(15)
@pytest.mark.parametrize("python", OTHERS, indirect=True)
def test_unit_tests_of_the_sdist_run(installed: Path, unpacked: Path) -> None:
    """With every supported Python, .github/workflows/tests.yml runs all tests."""
    run_tests_of_the_sdist(str(installed / "python"), unpacked, UNIT_TESTS)


#: Those that need gevent, and of the tests of the program those that need no program but ours.
WITH_GEVENT = [
    *(f"tests/unit/test_{name}.py" for name in ("acceptor", "connection", "mapper", "timers", "unsent")),
    *("tests/program/library/test_embedding.py", "tests/program/serving/test_unregistered.py"),
]
SCENE = """
from gevent_epmd import PortMapper, ThreadedPortMapper, client
from gevent_epmd.testing import EpmdProcess

def look_up(epmd):
    with client.register("foo", 4711, port=epmd.port):
        return client.port_please("foo", port=epmd.port).port

with EpmdProcess() as epmd, ThreadedPortMapper(port=0) as mapper:
    print(look_up(epmd), look_up(mapper))
with PortMapper(port=0) as other:
    pass
print(*(client.started(port=each.port) for each in (epmd, mapper, other)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", ["oldest"], indirect=True)
def test_oldest_gevent_that_is_allowed(
    python: str, installed: Path, wheel: Path, unpacked: Path, tmp_path: Path
) -> None:
    """With everything else as new as it is pinned, and the tests' own packages as they are installed."""
    if SUPPORTED.index("3.13") < SUPPORTED.index(version_of(python)):
        pytest.skip("there are no wheels of it for a Python after 3.13")
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))).decode()
    oldest = re.search(r"^Requires-Dist: gevent>=(\S+)$", metadata, re.MULTILINE)[1]
    others = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("gevent==")]
    (tmp_path / "constraints").write_text("\n".join(others))
    first = tmp_path / "first"
    python = str(installed / "python")
    what = (str(wheel), f"gevent=={oldest}", "--only-binary=gevent", "--target", str(first))
    install(python, "-c", str(tmp_path / "constraints"), *what)
    environ = {"PYTHONPATH": str(first)}
    run_tests_of_the_sdist(python, unpacked, WITH_GEVENT, **environ)
    version = run([python, "-c", "import gevent; print(gevent.__version__)"], environ=environ)
    assert version.stdout.decode().strip() == oldest
    done = run([python, "-W", "error", "-c", SCENE], cwd=tmp_path, environ=environ)
    assert (done.returncode, done.stdout) == (0, b"4711 4711\nFalse False False\n"), done.stderr.decode()


CONSUMER = """
from gevent_epmd import PortMapper, ThreadedPortMapper, client
from gevent_epmd.testing import EpmdProcess

with PortMapper(port=0, relaxed=True) as mapper, ThreadedPortMapper(0) as other:
    reveal_type(mapper.port)
    reveal_type(other)
    reveal_type(client.names(port=mapper.port))
    nodes: list[client.NamedPort] = client.Client(port=mapper.port).names()
    found: client.NodeInfo | None = client.port_please("foo")

def test_it(epmd: EpmdProcess) -> None:
    reveal_type(epmd.environ)

PortMapper(port="4369")

from gevent_epmd import Typo
from gevent_epmd.client import Typo
from gevent_epmd.testing import Typo
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", ["oldest"], indirect=True)
def test_types_reach_a_consumer(installed: Path, tmp_path: Path) -> None:
    """And the examples, those of the documents among them, are typed; but for those that show no types."""
    (tmp_path / "consumer.py").write_text(CONSUMER)
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    for number, block in enumerate(markdown.all_blocks("python")):
        if not re.search(r"def .*\):$", block.text, re.MULTILINE):
            (tmp_path / f"test_document{number}.py").write_text(block.text)
    mypy = [real(str(Path(sys.executable).parent / "mypy")), "--strict", "--ignore-missing-imports"]
    how = ["--cache-dir=/dev/null", "--python-executable", str(installed / "python")]
    done = run([*mypy, *how, "."], cwd=tmp_path, timeout=LONG)
    said = done.stdout.decode()
    for kind in ('"int"', "embedding.ThreadedPortMapper", "answers.NamedPort", '"dict[str, str]"'):
        assert kind in said, said
    assert said.count("error:") == 4, said
    for module in ("gevent_epmd", "gevent_epmd.client", "gevent_epmd.testing"):
        assert f'Module "{module}" has no attribute "Typo"' in said
    assert 'has incompatible type "str"; expected "int"' in said
    # The same for pyright.
    errors = pyright(tmp_path, str(installed / "python"))
    assert [one for one in errors if not one.startswith("consumer.py:")] == []
    assert [one for one in errors if "unknown import" in one] == [
        f'consumer.py:{line}: "Typo" is unknown import symbol' for line in (17, 18, 19)
    ], errors
    (wrong,) = (one for one in errors if "cannot be assigned" in one)
    assert 'to parameter "port" of type "int"' in wrong
    assert 'consumer.py:8: Type of "client.names(port=mapper.port)" is "list[NamedPort]"' in errors

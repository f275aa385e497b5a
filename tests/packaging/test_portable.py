"""Where the executables run (build/floor.py); the recipe of scripts/portable, and what it has made."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import elf
import floor
from support.paths import BUILT, FOLDER, ROOT
from support.programs import real, run

PORTABLE = ROOT / "build" / "portable"
MADE = ROOT / "dist" / "portable"
FORMS = Path(FOLDER).parent


def recipe(expression: str) -> list[str]:
    """The words that this becomes in a shell that has read the recipe."""
    script = f'. "$0"; printf "%s\\n" {expression}'
    return subprocess.check_output(["bash", "-euc", script, str(PORTABLE / "recipe")], text=True).splitlines()


def versions_by_readelf(path: Path) -> dict[str, set[str]]:
    said = run([real("readelf"), "-W", "-V", str(path)], environ={"LC_ALL": "C"}).stdout.decode()
    _, _, needs = said.partition("Version needs section")
    found: dict[str, set[str]] = {}
    for library, version in re.findall(r"File: (\S+)|Name: (\S+)", needs):
        if library:
            versions = found.setdefault(library, set())
        else:
            versions.add(version)
    return found


def newest(found: dict[str, str]) -> tuple[int, ...]:
    return max(map(floor.parsed, found.values()))


def test_symbol_versions_are_those_of_readelf() -> None:
    files = [Path(real(FOLDER)), *FORMS.rglob("*.so*")]
    assert len(files) > 5
    found = {path: elf.needed_versions(path.read_bytes()) for path in files}
    assert found == {path: versions_by_readelf(path) for path in files}
    assert any("GLIBC_2.2.5" in versions or "GLIBC_2.17" in versions for versions in found[files[0]].values())


def test_one_file_needs_what_its_parts_need() -> None:
    """Those that it has inside are found in it; they are all of the folder form's."""
    with zipfile.ZipFile(real(BUILT)) as packed:
        libraries = [name for name in packed.namelist() if ".so" in name]
    inside = floor.floors(Path(BUILT))
    assert len(inside) > len(libraries)
    assert newest(inside) == newest(floor.floors(FORMS))


def test_newer_glibc_than_wanted() -> None:
    command = [sys.executable, str(ROOT / "build" / "floor.py"), str(Path(real(FOLDER)).parent)]
    done = run(command)
    assert (done.returncode, done.stderr) == (0, b"")
    needed = ".".join(map(str, newest(floor.floors(FORMS))))
    assert done.stdout.decode() == floor.description(needed) + "\n"
    assert run([*command, "--at-most", needed]).returncode == 0
    done = run([*command, "--at-most", "2.2.5"])
    assert done.returncode == 1
    assert re.match(rb"more than glibc 2\.2\.5: (.*; )?libpython3\S+ needs 2\.", done.stderr)


@pytest.mark.parametrize(
    ("needed", "description"),
    [
        (
            "2.28",
            "needs glibc 2.28: Debian 10, Ubuntu 20.04, RHEL, Alma and Rocky 8, Fedora 29, "
            "Amazon Linux 2023, openSUSE Leap 15.3, or newer",
        ),
        (
            "2.36",
            "needs glibc 2.36: Debian 12, Ubuntu 24.04, RHEL, Alma and Rocky 10, Fedora 37, "
            "openSUSE Leap 15.6, or newer",
        ),
        ("2.99", "needs glibc 2.99 or newer"),
    ],
)
def test_distributions_that_have_it(needed: str, description: str) -> None:
    assert floor.description(needed) == description


def test_what_is_no_executable_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\x7fEL")
    assert floor.floors(tmp_path) == {}


@pytest.mark.parametrize("name", ["python", "zlib", "libffi"])
def test_sources_are_pinned(name: str) -> None:
    package, file, digest, folder = recipe(f'"${{{name}_source[@]}}"')
    assert file.startswith(f"{package}_")
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert re.search(r"-\d", folder)


def test_recipe_is_for_a_supported_python_and_what_is_locked() -> None:
    (version,) = recipe('"${python_source[3]}"')
    supported = (ROOT / "build" / "pythons").read_text().split()
    assert version.removeprefix("Python-").rpartition(".")[0] in supported
    for machine in ("x86_64", "aarch64"):
        assert re.fullmatch(r"[0-9a-f]{64}", *recipe(f'"$ziglang_{machine}"'))
    built_in, disabled = ({*recipe(f'"${{{kind}_modules[@]}}"')} for kind in ("builtin", "disabled"))
    assert not built_in & disabled
    assert built_in >= {"_socket", "select", "fcntl", "_struct", "zlib"}


def test_another_python_is_made_when_a_file_of_it_changes() -> None:
    (files,) = re.findall(
        r"^made=.*cat build/portable/\{(.*?)\}", (ROOT / "scripts" / "portable").read_text(), re.M
    )
    assert {*files.split(",")} == {path.name for path in PORTABLE.iterdir() if path.is_file()}


def test_libraries_of_packages_are_as_old_as_the_floor() -> None:
    (oldest,) = recipe('"$oldest_glibc"')
    newest_wheel = max(re.findall(r"manylinux_(\d+_\d+)", *recipe('"$glibc_platforms"')), key=_underscored)
    assert newest_wheel.replace("_", ".") == oldest


def _underscored(version: str) -> tuple[int, ...]:
    return floor.parsed(version.replace("_", "."))


def test_what_was_made_runs_as_far_back_as_it_should() -> None:
    """Those for other processors, too, which are beside it in folders of their own."""
    made = [path for path in MADE.glob("gevent-epmd*") if path.is_dir() and not path.name.endswith("-musl")]
    if not made:
        pytest.skip("scripts/portable was not called here")
    (oldest,) = recipe('"$oldest_glibc"')
    for folder in made:
        assert newest(floor.floors(folder)) <= floor.parsed(oldest)


def test_usage() -> None:
    script = str(ROOT / "scripts" / "portable")
    (oldest,) = recipe('"$oldest_glibc"')
    done = run([script, "--help"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"glibc {oldest}" in done.stdout.decode()


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("portable", ["glib"]),
        ("portable", ["glibc", "musl"]),
        ("portable", ["--machine"]),
        ("portable", ["musl", "--machine", "arm64"]),
        ("try-portable", ["--machine"]),
        ("try-portable", ["--machine", "arm64", "musl"]),
        ("try-portable", ["--check"]),
    ],
)
def test_usage_for_wrong_arguments(script: str, arguments: list[str]) -> None:
    done = run([str(ROOT / "scripts" / script), *arguments])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"usage: scripts/{script}".encode())


def test_processor_that_the_kernel_does_not_run(tmp_path: Path) -> None:
    """What it lacks is named before a root is made for another processor."""
    root = tmp_path / "root"
    script = '. "$0/_environment"; . "$0/_root"; make_root bookworm-nonesuch "$1"'
    done = run(["bash", "-euc", script, str(ROOT / "scripts"), str(root)], environ={"EPMD_NO_APT": "1"})
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert "this kernel does not run programs for nonesuch: install qemu-user-static" in said
    assert "/usr/lib/binfmt.d/qemu-nonesuch.conf >/proc/sys/fs/binfmt_misc/register" in said
    assert not list(tmp_path.iterdir())

"""build/elf.py, and that no library in the executables names a folder of the machine that built them."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

import elf
from support.paths import BUILT, FOLDER
from support.programs import real, run

SOURCE = "int answer(void) { return 42; }\n"
PROGRAM = """\
#include <stdio.h>
int answer(void);
int main(void) { printf("%d\\n", answer()); return 0; }
"""


def search_paths(path: Path) -> list[str]:
    said = run([real("readelf"), "-W", "-d", str(path)], environ={"LC_ALL": "C"}).stdout.decode()
    return re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", said)


def test_folder_form_searches_no_other_folder() -> None:
    libraries = [*Path(real(FOLDER)).parent.rglob("*.so*")]
    assert libraries
    assert {path.name: search_paths(path) for path in libraries if search_paths(path)} == {}


def test_one_file_searches_no_other_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(real(BUILT)) as packed:
        libraries = [name for name in packed.namelist() if ".so" in name]
        packed.extractall(tmp_path, libraries)
    assert libraries
    assert {name: search_paths(tmp_path / name) for name in libraries if search_paths(tmp_path / name)} == {}


@pytest.mark.parametrize("option", ["--enable-new-dtags", "--disable-new-dtags"], ids=["runpath", "rpath"])
def test_search_path_is_dropped(option: str, tmp_path: Path) -> None:
    """The library is found by its search path, and then it is not."""
    (tmp_path / "answer.c").write_text(SOURCE)
    (tmp_path / "program.c").write_text(PROGRAM)
    folder = tmp_path / "libraries"
    folder.mkdir()
    compiler = real("cc")
    library = folder / "libanswer.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "answer.c"], check=True)
    program = tmp_path / "program"
    link = [f"-Wl,{option},-rpath,{folder}", f"-L{folder}", "-lanswer"]
    subprocess.run([compiler, "-o", program, tmp_path / "program.c", *link], check=True)
    assert search_paths(program) == [str(folder)]
    assert run([str(program)]).stdout == b"42\n"
    content = bytearray(program.read_bytes())
    assert elf.drop_search_path(content)
    program.write_bytes(content)
    assert search_paths(program) == []
    assert run([str(program)]).returncode == 127
    assert run([str(program)], environ={"LD_LIBRARY_PATH": str(folder)}).stdout == b"42\n"
    assert not elf.drop_search_path(content)


def test_other_files_stay_as_they_are() -> None:
    content = bytearray(b"#!/bin/sh\n")
    assert not elf.drop_search_path(content)
    assert content == b"#!/bin/sh\n"

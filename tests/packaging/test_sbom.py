"""dist/*.cdx.json, the list of what the executables are made of: it is valid, and it names all of it."""

from __future__ import annotations

import hashlib
import json
import marshal
import re
import subprocess
import sysconfig
import zipfile
from importlib import resources
from pathlib import Path
from types import CodeType

import jsonschema
import pytest
from referencing import Registry, Resource

import licences
from support.paths import BUILT, FOLDER, ROOT
from support.programs import real

INNER = Path(FOLDER).parent / "_internal"
STAND_INS = ROOT / "build" / "stand-ins"
SCHEMA = "bom-1.6.SNAPSHOT.schema.json"


@pytest.fixture(scope="module")
def document() -> dict:
    real(BUILT)
    (path,) = (ROOT / "dist").glob("*.cdx.json")
    assert re.fullmatch(r"gevent-epmd-\d+\.\d+\.\d+-linux-\w+\.cdx\.json", path.name)
    return json.loads(path.read_text())


def components(document: dict) -> list[dict]:
    return [document["metadata"]["component"], *document["components"]]


def files(document: dict) -> dict[str, str]:
    """Each file and module with its hash; none is listed twice."""
    found = [inner for one in components(document) for inner in one["components"]]
    hashes = {inner["name"]: inner["hashes"][0]["content"] for inner in found}
    assert len(hashes) == len(found)
    return hashes


def quick_modules(early: CodeType) -> set[str]:
    """What the module that runs first has inside: its constants are the names and the code of others."""
    words = [word for one in early.co_consts for word in (one if isinstance(one, tuple) else [one])]
    return {word for word in words if re.fullmatch(r"gevent_epmd[\w.]*|__future__", str(word))}


def modules() -> set[str]:
    """What is in the archives of modules, of both executables."""
    readers = pytest.importorskip("PyInstaller.archive.readers")
    found = set()
    for executable in (BUILT, FOLDER):
        archive = readers.CArchiveReader(executable)
        by_kind = {name: entry[-1] for name, entry in archive.toc.items()}
        found |= {name for name, kind in by_kind.items() if kind in "sm"}
        found |= quick_modules(marshal.loads(archive.extract("early")))
        (inner,) = (name for name, kind in by_kind.items() if kind == "z")
        content = archive.extract(inner)
        size = int.from_bytes(content[:8], "little")
        found |= {*marshal.loads(content[8 : 8 + size])}
    with zipfile.ZipFile(INNER / "base_library.zip") as early:
        names = [name.removesuffix(".pyc").removesuffix("/__init__") for name in early.namelist()]
    return found | {name.replace("/", ".") for name in names}


def test_is_valid(document: dict) -> None:
    schemas = resources.files("cyclonedx.schema") / "_res"
    read = {path.name: json.loads(path.read_text()) for path in schemas.iterdir() if path.suffix == ".json"}
    registry = Registry().with_resources(
        pair
        for name, schema in read.items()
        for pair in [
            (name.replace(".SNAPSHOT", ""), Resource.from_contents(schema)),
            (schema.get("$id", name), Resource.from_contents(schema)),
        ]
        if "$schema" in schema
    )
    validator = jsonschema.Draft7Validator(read[SCHEMA], registry=registry)
    assert [error.message for error in validator.iter_errors(document)] == []
    assert [*validator.iter_errors(document | {"bomFormat": "other"})], "it can fail"


def test_every_module_belongs_to_a_component(document: dict) -> None:
    listed = {name for name in files(document) if "/" not in name and not re.search(r"\.so(\.|$)", name)}
    not_in_archives = {"launcher"}
    assert modules() == listed - not_in_archives


def test_every_file_belongs_to_a_component_and_has_its_hash(document: dict) -> None:
    hashes = files(document)
    for path in [Path(BUILT), *filter(Path.is_file, INNER.parent.rglob("*"))]:
        made_here = f"dist/{path.relative_to(ROOT / 'dist')}"
        name = made_here if made_here in hashes else str(path.relative_to(INNER))
        assert hashes[name] == hashlib.sha256(path.read_bytes()).hexdigest(), path


def test_every_component_has_a_version_and_a_licence_whose_text_is_there(document: dict) -> None:
    text = (INNER / "licences.txt").read_text()
    headings = re.findall(r"^={72}\n(.+): (.+)\n={72}\n\n(.+)", text, re.MULTILINE)
    found = {
        (f"{one['name']} {one['version']}", one["licenses"][0]["expression"]) for one in components(document)
    }
    assert {heading[:2] for heading in headings} == found
    assert "unknown" not in str(found)
    assert "NOASSERTION" not in str(found)


def test_stand_ins_are_ours(document: dict) -> None:
    """They have the names of modules by others, and nothing of theirs."""
    names = {
        ".".join(path.relative_to(STAND_INS).with_suffix("").parts).removesuffix(".__init__")
        for path in STAND_INS.rglob("*.py")
    }
    ours = {inner["name"] for inner in document["metadata"]["component"]["components"]}
    assert {"gevent._tblib", "traceback"} <= names <= ours


@pytest.mark.parametrize(
    ("file", "name"),
    [("libffi.so.8", "libffi"), ("libzstd.so.1", "zstd"), ("libgcc_s.so.1", "GCC runtime")],
)
def test_libraries_that_only_some_pythons_need_are_known(file: str, name: str) -> None:
    """Which one needs which is different from one version of Python to the next."""
    path = Path("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "", file)
    if not path.exists():
        pytest.skip(f"there is no {path}")
    (found,) = licences.components([licences.Entry(file, str(path))])
    assert found.part.name == name
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.part.version)
    assert found.part.licence != "NOASSERTION"
    assert all("copyright" in text.lower() for text in found.part.texts)
    assert found.part.texts


@pytest.mark.parametrize(
    ("file", "content", "inside"),
    [
        ("libpython3.13.so.1.0", " inflate 1.3.2 Copyright 1995-2026 Mark Adler ", ("zlib", "1.3.2")),
        ("_ctypes.cpython-313-x86_64-linux-gnu.so", r'\xbf" "3.8.0', ("libffi", "3.8.0")),
    ],
)
def test_libraries_that_are_linked_statically_are_known(
    file: str, content: str, inside: tuple[str, str], tmp_path: Path
) -> None:
    """As in the Python of scripts/portable."""
    (tmp_path / "a.c").write_text(f'const char nothing[] = "", text[] = "{content}";\n')
    path = str(tmp_path / file)
    subprocess.run([real("cc"), "-shared", "-o", path, str(tmp_path / "a.c")], check=True)
    found = [
        one.part for one in licences.components([licences.Entry(f"python3.13/lib-dynload/{file}", path)])
    ]
    assert inside in [(part.name, part.version) for part in found]


def test_packages_are_those_that_are_locked(document: dict) -> None:
    lines = (ROOT / "build" / "constraints.txt").read_text().splitlines()
    locked = {line.split()[0] for line in lines if not line.startswith("#")}
    packages = [one for one in document["components"] if one["purl"].startswith("pkg:pypi/")]
    assert {"gevent", "greenlet", "docopt-ng", "pyinstaller"} == {one["name"] for one in packages}
    assert {f"{one['name']}=={one['version']}" for one in packages} <= locked


@pytest.mark.parametrize("folder", [".scratch", "site-packages"])
def test_our_modules_are_ours_wherever_the_checkout_is(folder: str, tmp_path: Path, monkeypatch) -> None:
    """A release is made of a clone in .scratch."""
    pytest.importorskip("PyInstaller")
    monkeypatch.setattr(licences, "ROOT", tmp_path / folder / "checkout")
    (found,) = licences.components(
        [licences.Entry("gevent_epmd", str(licences.ROOT / "lib" / "__init__.py"))]
    )
    assert found.part.name == "gevent-epmd"

"""Writes what the executables in a folder are made of, as a CycloneDX document: sbom.py FOLDER COMPONENTS.

FOLDER has what PyInstaller has made, and the document comes into it; COMPONENTS is what build/licences.py
has noted.  A library's hash is that of the file in the folder form; a module's is that of the source file
from which it was compiled.  Two builds of one source give one document: it has no date, and its serial number
is made of its content.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import sysconfig
import uuid
from pathlib import Path

from gevent_epmd import __version__

#: An executable for musl has another name than that for glibc, which most hosts have.
LIBC = "-musl" if "musl" in (sysconfig.get_config_var("SOABI") or "") else ""
NAME = f"gevent-epmd-{__version__}-linux-{platform.machine()}{LIBC}"
OURS = "gevent-epmd"
ON_PYPI = (OURS, "docopt-ng", "gevent", "greenlet", "pyinstaller")


def document(folder: Path, components: list[dict]) -> dict:
    library = folder / "gevent-epmd" / "_internal"
    described = {one["name"]: _component(one, library) for one in components}
    ours = described.pop(OURS)
    ours["type"] = "application"
    ours["components"] += _own_files(folder, components)
    found = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours},
        "components": list(described.values()),
        "dependencies": [
            {"ref": ours["bom-ref"], "dependsOn": [one["bom-ref"] for one in described.values()]}
        ],
    }
    content = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return found | {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"}


def _component(one: dict, library: Path) -> dict:
    name, version = one["name"], one["version"]
    where = "pypi" if name in ON_PYPI else "generic"
    url = f"pkg:{where}/{name.lower().replace(' ', '-')}@{version}"
    files = [_file(name, library / name, path) for name, path in one["entries"].items()]
    return {
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "licenses": [{"expression": one["licence"]}],
        "purl": url,
        "components": files,
    }


def _own_files(folder: Path, components: list[dict]) -> list[dict]:
    """What was made here of more than one component: the executables, and the archive of early modules."""
    listed = {name for one in components for name in one["entries"]}
    inside = folder / "gevent-epmd" / "_internal"
    made = [
        path for path in inside.rglob("*") if path.is_file() and str(path.relative_to(inside)) not in listed
    ]
    paths = [folder / "epmd", folder / "gevent-epmd" / "epmd", *sorted(made)]
    return [_file(f"dist/{path.relative_to(folder)}", path) for path in paths]


def _file(name: str, *candidates: str | Path) -> dict:
    path = next(path for path in map(Path, candidates) if path.is_file())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}


if __name__ == "__main__":
    target, noted = map(Path, sys.argv[1:])
    text = json.dumps(document(target, json.loads(noted.read_text(encoding="utf-8"))), indent=1)
    (target / f"{NAME}.cdx.json").write_text(f"{text}\n", encoding="utf-8")

"""What pyright says of Python files, and what schemas say of others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from support.patience import LONG
from support.programs import real, run


def pyright(folder: Path, python: str) -> list[str]:
    """What it says, as "file:line: text", of the files in a folder, for what this Python has installed."""
    program = real(str(Path(sys.executable).with_name("basedpyright")))
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = run([program, "--outputjson", "--pythonpath", python], cwd=folder, timeout=LONG)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}" for one in found
    ]


def schema_status(schema: str, *paths: Path) -> int:
    """0 if these files are as a schema says that check-jsonschema brings; what is wrong is on stdout."""
    # Not at the top: it takes each worker 0.3 s.
    import check_jsonschema

    options = ["--builtin-schema", f"vendor.{schema}", *map(str, paths)]
    return check_jsonschema.main(options, standalone_mode=False)

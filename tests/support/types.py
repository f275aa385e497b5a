"""What pyright says of Python files."""

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

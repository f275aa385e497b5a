"""Fuzzing that is guided by coverage, for which the extra `fuzz` must be installed:

python -m soak.guided FOLDER [OPTIONS OF LIBFUZZER]      inputs from FOLDER, and what they lead to into it
python -m soak.guided --keep FOLDER...                   what is in these folders becomes corpus.txt
"""

from __future__ import annotations

import sys
from pathlib import Path


def keep(folders: list[str]) -> None:
    from soak.fuzz import CORPUS

    inputs = {path.read_bytes().hex() for folder in folders for path in Path(folder).iterdir()}
    CORPUS.write_text("\n".join(sorted(inputs, key=lambda line: (len(line), line))) + "\n", encoding="ascii")


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is missing: it comes with the extra `fuzz`, as scripts/soak installs it")
    with atheris.instrument_imports(include=["gevent_epmd.protocol", "gevent_epmd.server.registry"]):
        from soak.fuzz import feed
    atheris.Setup(sys.argv, feed)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "--keep":
        keep(sys.argv[2:])
    else:
        main()

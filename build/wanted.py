"""Prints what pyproject.toml asks for, one requirement a line: wanted.py [EXTRA]...
Or the names of the extras, in one line: wanted.py --extras

What the package is built with is part of it: the scripts install without pip's build isolation, which would
fetch a setuptools that no lock file names.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def extras() -> dict[str, list[str]]:
    return _settings()["project"]["optional-dependencies"]


def requirements(*wanted: str) -> list[str]:
    settings = _settings()
    lines = [*settings["project"]["dependencies"], *settings["build-system"]["requires"]]
    return lines + [line for extra in wanted for line in settings["project"]["optional-dependencies"][extra]]


def _settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    if sys.argv[1:] == ["--extras"]:
        print(*extras())
    else:
        print(*requirements(*sys.argv[1:]), sep="\n")

"""What takes long, and is made once for all workers of a run: packages, virtual environments, plays."""

from __future__ import annotations

import fcntl
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


class Made:
    """The folder of a run in which its workers share what they make."""

    def __init__(self, config: pytest.Config, factory: pytest.TempPathFactory) -> None:
        own = factory.getbasetemp()
        # xdist gives each worker a folder in that of the run.
        self._folder = own.parent if hasattr(config, "workerinput") else own

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder of this name, filled by `make`; what fails is tried again by the next who asks."""
        folder, complete = self._folder / name, self._folder / f"{name}.complete"
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                complete.touch()
        return folder

    def value(self, name: str, make: Callable[[], object]) -> object:
        """The same, for a value that can be pickled."""

        def store(folder: Path) -> None:
            (folder / "value").write_bytes(pickle.dumps(make()))

        return pickle.loads((self.once(name, store) / "value").read_bytes())

"""What is different in the executables that PyInstaller makes.

The folder form is one process that reads its libraries where they are installed.  An upgrade may remove that
folder while a daemon serves, so nothing may be imported once it serves.

In the one-file form a launcher unpacks a folder, runs the real process as its child, and removes the folder
when that child ends.  A daemon has left that child behind and lives on without the folder.  In the foreground
the launcher waits; what the child does where it is killed is in `launcher`.

The libraries that only serving needs are not unpacked by the launcher, so that those who ask, or find the
port taken, need not wait for it: `unpack_libraries` does it.

Imports gevent in the functions that serve only: the start of every node imports this.
"""

from __future__ import annotations

import gc
import os
import sys

from . import launcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def launcher_environ() -> dict[str, str]:
    """The environment in which the launcher was started; it has changed what it handed on."""
    try:
        with open(f"/proc/{os.getppid()}/environ", "rb") as environ:
            pairs = (pair.partition(b"=") for pair in environ.read().split(b"\0"))
            return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    except OSError:
        return {}


def unpack_libraries() -> None:
    """Unpack into the launcher's folder what build/epmd.spec has put behind the modules.

    For the one-file form only, and before gevent is imported.  Raises OSError, and ImportError where the
    executable is not there any more."""
    from zipimport import zipimporter

    folder: str = sys._MEIPASS  # type: ignore[attr-defined]
    packed = zipimporter(sys.executable)
    for name in packed.get_data("names").decode().split():
        try:
            _write(os.path.join(folder, name), packed.get_data(name))
        except OSError as error:
            hint = "the folder form (dist/gevent-epmd) needs no place to unpack to"
            raise OSError(error.errno, f"{error.strerror}; {hint}") from None
    # The import system takes a folder that it once found absent to be absent for good, and would not see the
    # files; `importlib.invalidate_caches` does not reach what PyInstaller's finders remember.
    sys.path_importer_cache.clear()


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def import_everything() -> None:
    """Import what gevent would import only when it is first used: the class of its loop.  The loop itself
    must be made by the process that serves."""
    from gevent import config

    # Its default imports pprint, dataclasses and inspect, for a report that nobody will read.
    config.format_context = "builtins.repr"
    config.loop  # noqa: B018 - imported when it is first asked for


def settle(*, has_launcher: bool) -> None:
    """Become independent of the folder, now that everything is loaded; in the foreground, end with the
    launcher.  For the executables only."""
    gc.enable()  # build/hooks/first.py has switched it off
    sys.meta_path.insert(0, _NoMoreImports())
    launcher.forget()
    if has_launcher:
        launcher.empty(sys._MEIPASS)  # type: ignore[attr-defined]
        _end_with_launcher()


class _NoMoreImports:
    """A finder, the first that is asked, and the last: from here on an import fails in a way that
    cannot be mistaken for anything else."""

    @staticmethod
    def find_spec(name: str, *_: object) -> NoReturn:
        raise ImportError(f"{name} is not part of the executable")


def _end_with_launcher() -> None:
    from gevent import get_hub

    from .processes import when_gone

    when_gone(get_hub().loop, launcher.pid, launcher.end)
    # A process of the same number may have followed it.
    if os.getppid() != launcher.pid:
        launcher.end()

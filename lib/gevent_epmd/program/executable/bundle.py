"""Runs the program correctly inside the executables that PyInstaller makes.

The folder form is one process that reads its libraries from the folder where they are installed. An upgrade
may remove that folder while a daemon serves. A daemon must therefore import nothing after it has started to
serve.

In the one-file form a launcher unpacks a folder, runs the real process as its child, and removes the folder
when the child exits. A daemon is detached from that child and keeps running without the folder. In the
foreground the launcher waits for the child. The module `launcher` handles a launcher that is killed.

The launcher unpacks only what the most frequent command lines need (`quick`), which makes them faster.
`unpack_libraries` unpacks the other libraries: those for every other command line, and those for a server.

Only the functions for serving import gevent, because every start of an Erlang node imports this module.
"""

from __future__ import annotations

import gc
import os
import sys

from . import launcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def unpack_libraries(purpose: str) -> None:
    """Unpack libraries into the launcher's folder: those "for-any-line", or those "for-serving" in addition.

    build/epmd.spec appends them to the modules in the executable. Call this in the one-file form only, and
    before they are imported. Raises OSError, and ImportError if the executable no longer exists.
    """
    from zipimport import zipimporter

    folder: str = sys._MEIPASS  # type: ignore[attr-defined]
    packed = zipimporter(sys.executable)
    for name in packed.get_data(purpose).decode().split():
        try:
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(packed.get_data(name))
        except OSError as error:
            hint = "set TMPDIR to another folder, or use the folder form, which unpacks nothing"
            raise OSError(error.errno, f"{error.strerror}; {hint}") from None
    # The import system remembers that the folder did not exist, and would not find the files.
    sys.path_importer_cache.clear()


def import_everything() -> None:
    """Import what gevent would otherwise import on first use: the class of its event loop."""
    from gevent import config

    # The default value imports pprint, dataclasses and inspect, which only gevent's error reports need.
    config.format_context = "builtins.repr"
    config.loop  # noqa: B018 - the access imports the class


def settle(*, has_launcher: bool) -> None:
    """Make an executable independent of its folder. Call it once everything is imported.

    With a launcher (`has_launcher`), in the foreground, the process also ends when the launcher ends.
    """
    # Nothing that exists now is ever garbage. The first collection would take 2 ms to find that out.
    gc.freeze()
    gc.enable()  # build/hooks/early.py disabled it
    sys.meta_path.insert(0, _NoMoreImports())
    launcher.forget()
    if has_launcher:
        from gevent import get_hub

        from ..process.watch import when_gone

        launcher.empty()
        when_gone(get_hub().loop, launcher.pid, launcher.end)
        # It may have ended before it was watched, and another process may have its process ID now.
        if os.getppid() != launcher.pid:
            launcher.end()


class _NoMoreImports:
    """An import finder, the first in sys.meta_path, that rejects every further import."""

    @staticmethod
    def find_spec(name: str, *_: object) -> NoReturn:
        raise ImportError(f"{name} is not part of the executable")

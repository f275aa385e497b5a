"""Finds the modules of build/stand-ins, which replace others in the executables.

`install` lets this process import them, as an executable does. This module imports only what every process
has imported, because such a process is asked what else it imports.
"""

import posix
import sys
from _frozen_importlib_external import spec_from_file_location


def _found(folder, package=""):
    for entry in posix.scandir(folder):
        if entry.is_dir():
            yield from _found(entry.path, f"{package}{entry.name}.")
        elif entry.name.endswith(".py"):
            yield (package + entry.name.removesuffix(".py")).removesuffix(".__init__"), entry.path


#: {module: path of its source}
STAND_INS = dict(_found(f"{__file__.rpartition('/')[0]}/stand-ins"))


class _Finder:
    @staticmethod
    def find_spec(name, *_):
        return spec_from_file_location(name, STAND_INS[name]) if name in STAND_INS else None


def install():
    sys.meta_path.insert(0, _Finder)

"""Runs first in the executables: answers the quick command lines, and finds the modules of all others.

The modules of a quick line are part of this one: build/epmd.spec appends a call of `run` with them. For every
other command line `run` returns. Then the launcher runs rest.py, which adds all other modules, and epmd.py.

PyInstaller's import system would take a sixth of the time of `epmd -names`. For a daemon it would open the
executable 70 times. This one reads all that a daemon imports at once.
"""

import gc
import marshal
import sys
from _frozen_importlib import ModuleSpec


class Finder:
    """Finds and loads the modules in `modules`, {name: (whether it is a package, marshalled code)}."""

    def __init__(self, modules):
        self._modules = modules

    def add_archive(self):
        """Add the modules of the archive, which `write_modules` of build/epmd.spec describes."""
        self._executable, _, start = sys._pyinstaller_pyz.rpartition("?")
        with open(self._executable, "rb", 0) as file:
            file.seek(int(start))
            size = int.from_bytes(file.read(8), "little")
            self._modules |= marshal.loads(file.read(size))
            self._behind = file.tell()

    def find_spec(self, name, _path=None, _target=None):
        if name not in self._modules:
            return None
        is_package, _ = self._modules[name]
        spec = ModuleSpec(name, self, is_package=is_package)
        if is_package:
            # Where its extension modules are.
            spec.submodule_search_locations.append("/".join((sys._MEIPASS, *name.split("."))))
        return spec

    def create_module(self, _spec):
        return None  # the usual kind of module

    def exec_module(self, module):
        # Not kept: nothing is loaded twice.
        _, code = self._modules.pop(module.__name__)
        exec(marshal.loads(code if isinstance(code, bytes) else self._inflated(*code)), module.__dict__)

    def _inflated(self, start, size):
        import zlib

        with open(self._executable, "rb", 0) as file:
            file.seek(self._behind + start)
            return zlib.decompress(file.read(size))


#: What `run` makes.
finder = None


def run(form, modules):
    """Run the command line if it is a quick one, and exit. `form` is the value of sys.frozen."""
    global finder
    # Garbage collection during the imports would delay the start of an epmd by 3 ms and find nothing.
    # `bundle.settle` enables it again.
    gc.disable()
    sys.frozen = form
    finder = Finder(modules)
    sys.meta_path.insert(0, finder)
    from gevent_epmd.program import is_one_file

    if is_one_file():
        from gevent_epmd.program.executable import launcher

        # At once: if the launcher is killed, this process has another parent a moment later.
        launcher.watch()
    from gevent_epmd.program import cli

    cli.answer_quickly()

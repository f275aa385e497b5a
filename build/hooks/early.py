"""Runs first in the executables, before PyInstaller's start-up code, and answers the quick command lines.

Setting up PyInstaller's import system, which then opens the executable for each module, would take a sixth of
the time of `epmd -names`. So the modules of a quick line are part of this one: build/epmd.spec appends a call
of `run` with them.

For every other command line `run` returns, and PyInstaller's start-up code goes on. The modules that are
loaded by then stay, and PyInstaller's import system finds the other ones of the same packages.
"""

import gc
import marshal
import sys
from _frozen_importlib import ModuleSpec


class Finder:
    """Finds and loads the modules in `modules`, {name: (whether it is a package, marshalled code)}."""

    def __init__(self, modules):
        self._modules = modules

    def find_spec(self, name, _path=None, _target=None):
        if name not in self._modules:
            return None
        is_package, _ = self._modules[name]
        spec = ModuleSpec(name, self, is_package=is_package)
        if is_package:
            # The path that PyInstaller's finder gives a package.
            spec.submodule_search_locations.append("/".join((sys._MEIPASS, *name.split("."))))
        return spec

    def create_module(self, _spec):
        return None  # the usual kind of module

    def exec_module(self, module):
        _, code = self._modules[module.__name__]
        exec(marshal.loads(code), module.__dict__)


def run(form, modules):
    """Run the command line if it is a quick one, and exit. `form` is the value of sys.frozen."""
    # Garbage collection during the imports would delay the start of an epmd by 3 ms and find nothing.
    # `bundle.settle` enables it again.
    gc.disable()
    sys.frozen = form
    sys.meta_path.insert(0, Finder(modules))
    from gevent_epmd.program import is_one_file

    if is_one_file():
        from gevent_epmd.program.executable import launcher

        # At once: if the launcher is killed, this process has another parent a moment later.
        launcher.watch()
    from gevent_epmd.program import cli

    cli.answer_quickly()

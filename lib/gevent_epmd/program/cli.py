"""The program: reads the line, and asks an epmd, serves, or serves detached (C: main() of epmd.c).

What is imported here is paid for at every start of every Erlang node.  `quick` answers most lines; what the
others need is imported when it is known what they ask for.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import os
import sys

from . import calls, descriptors, is_frozen, is_one_file, quick


def main() -> int:
    """Do what the command line says; gives the exit status."""
    status = _do_as_told()
    if is_one_file():
        from . import launcher

        launcher.tidy_up()
    if is_frozen():
        # All is written and closed by now, and for Python to take itself apart takes 3.5 ms.
        os._exit(status)
    return status


def _do_as_told() -> int:
    descriptors.open_standard_descriptors()
    # As a C program: Ctrl-C ends it without a traceback, unless whoever started it ignores Ctrl-C.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if _is_process_1():
        from . import signals

        signals.exit_by_signals()
    status = quick.answer(sys.argv[1:], os.environ)
    return _do_in_full() if status is None else status


def _is_process_1() -> bool:
    """Whether signals must be handled because this is process 1, or the child of a launcher that is."""
    return os.getpid() == 1 or (os.getppid() == 1 and is_one_file())


def _do_in_full() -> int:
    """Read any line, with docopt."""
    from ..conventions import ValueProblem
    from .options import USAGE, UsageError, read_options

    try:
        options = read_options(sys.argv[1:], os.environ)
    except UsageError as error:
        # What is wrong comes last: the usage alone fills a screen.
        return _fail(str(error), f"{USAGE}\n")
    except ValueProblem as error:
        return _fail(str(error))
    if options.command:
        ask = calls.Ask(
            options.command, options.settings.port, options.host, options.stop_name, json=options.json
        )
        return calls.call(ask)
    from . import start

    return start.serve(options)


def _fail(text: str, usage: str = "") -> int:
    calls.write(2, usage.encode())
    calls.say(2, text)
    return 1

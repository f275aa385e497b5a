"""The program: reads the line, and asks an epmd, serves, or serves detached (C: main() of epmd.c).

What is imported here is paid for at every start of every Erlang node; what a call needs, and what
serving needs, is imported when it is known which of them it is.
"""

from __future__ import annotations

import os
import signal
import sys

from ..conventions import ValueProblem
from . import daemon
from .options import USAGE, UsageError, read_options


def main() -> int:
    """Do what the command line says; gives the exit status."""
    status = _do_as_told()
    if hasattr(sys, "frozen"):
        # All is written and closed by now, and for Python to take itself apart is 3.5 of some 40 ms.
        os._exit(status)
    return status


def _do_as_told() -> int:
    daemon.open_standard_descriptors()
    # As a C program: Ctrl-C ends it without a traceback, unless whoever started it ignores Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if 1 in (os.getpid(), os.getppid() if hasattr(sys, "frozen") else 0):
        from . import signals

        signals.exit_by_signals()
    try:
        options = read_options(sys.argv[1:], os.environ)
    except UsageError as error:
        # What is wrong comes last: the usage alone fills a screen.
        return _fail(str(error), f"{USAGE}\n")
    except ValueProblem as error:
        return _fail(str(error))
    if options.command:
        # As `epmd -names | head -1` ends a C program.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        from . import calls

        return calls.call(options)
    from . import start

    return start.serve(options)


def _fail(text: str, usage: str = "") -> int:
    from . import calls

    calls.write(2, usage.encode())
    calls.say(2, text)
    return 1

"""The program's entry point: reads the command line, then makes an interactive call, serves, or serves
detached.

Invariant: this module imports only what every call needs, because every start of every Erlang node pays for
it. `quick` answers most command lines. The other ones import what they need once it is known.

C's counterpart: main() of epmd.c.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal imports enum
import posix  # not os, see `environment`
import sys

from . import calls, environment, is_frozen, is_one_file, quick

#: Whether `answer_quickly` has been called.
_is_tried = False


def main() -> int:
    """Run the command line and return the exit status. The executables exit without returning."""
    status = answer_quickly()
    return _end(_do_in_full()) if status is None else status


def answer_quickly() -> int | None:
    """Run the command line if it is a quick one, and end as `main` does. Returns None for any other one.

    The executables call this before they can import any other module (build/hooks/early.py). The call that
    `main` makes later then returns None.
    """
    global _is_tried
    if _is_tried:
        return None
    _is_tried = True
    open_standard_descriptors()
    # Without this, Ctrl-C would print a traceback. It ends a C program silently. If the parent process
    # ignores Ctrl-C, so does this program.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    # Also as the child of a launcher that is process 1.
    if posix.getpid() == 1 or (posix.getppid() == 1 and is_one_file()):
        from .process import signals

        signals.exit_by_signals()
    status = quick.answer(sys.argv[1:], environment())
    if status is None and is_one_file():
        status = _unpack()
    return None if status is None else _end(status)


def open_standard_descriptors() -> None:
    """Open /dev/null on each closed one of the descriptors 0, 1 and 2. Else a socket would take its place."""
    try:
        descriptor = posix.open("/dev/null", posix.O_RDWR)
    except OSError:
        return  # a chroot without /dev/null; output cannot be shown there anyway
    while descriptor <= 2:
        descriptor = posix.dup(descriptor)
    posix.close(descriptor)


def _unpack() -> int | None:
    """Unpack what a command line that is not quick needs to be read. Return the exit status if this fails."""
    from .executable import bundle

    try:
        bundle.unpack_libraries("for-any-line")
    except (ImportError, OSError) as error:
        return _fail(f"cannot start: {error}")
    return None


def _end(status: int) -> int:
    if is_one_file():
        from .executable import launcher

        launcher.tidy_up()
    if is_frozen():
        # A regular exit of the interpreter takes 3.5 ms. Nothing is left to flush or close at this point.
        posix._exit(status)
    return status


def _do_in_full() -> int:
    """Run any command line. Reads it with docopt."""
    import os

    from ..conventions import ValueProblem
    from .line import UsageError, UsageWanted
    from .options import USAGE, read_options

    try:
        options = read_options(sys.argv[1:], os.environ)
    except UsageWanted:
        calls.write(2, USAGE.encode())
        return 1
    except UsageError as error:
        # The usage text fills a screen, in which the reason would be hard to find.
        return _fail(f"{error}: see epmd -help")
    except ValueProblem as error:
        return _fail(str(error))
    if options.command:
        return calls.call(options)
    from . import start

    return start.serve(options)


def _fail(text: str) -> int:
    calls.say(2, text)
    # A plugin of Nagios that ends with 1 has found something to warn of.
    return calls.tell_nagios(text) if "-nagios" in sys.argv else 1

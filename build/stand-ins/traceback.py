"""In the executables this is traceback, with which gevent reports errors that nobody has caught.

The real one reads sources, and an executable has none.  What it imports for that (linecache, tokenize, re, in
newer Pythons ast too) takes 3 ms until an epmd serves.  Python itself prints the same without it.
"""

import sys


def print_exception(kind, value, trace, **_options):
    """On stderr, which is where gevent prints."""
    sys.__excepthook__(kind, value, trace)


def print_exc(**_options):
    print_exception(*sys.exc_info())

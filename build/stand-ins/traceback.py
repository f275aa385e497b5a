"""Replaces traceback in the executables. gevent uses it to report uncaught errors.

The original reads source files, and an executable has none. What it imports for that (linecache, tokenize,
re, and ast in newer Pythons) adds 3 ms before an epmd serves. sys.__excepthook__ prints the same.
"""

import sys


def print_exception(kind, value, trace, **_options):
    """Print to stderr, as gevent does."""
    sys.__excepthook__(kind, value, trace)


def print_exc(**_options):
    print_exception(*sys.exc_info())

"""Replaces textwrap in the executables. gevent uses it to format the help texts of its settings.

The original imports re, which nothing else here needs. Together they add 2 ms before an epmd serves.
"""


def dedent(text):
    return text

"""Replaces signal in the executables: the same functions and numbers, without names for the numbers.

gevent's event loop imports it. The original imports enum. Together they add 2 ms before an epmd serves.
"""

from _signal import *  # noqa: F403

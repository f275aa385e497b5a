"""Runs first in the one-file executable, and only there.

Tells the program that its parent process is a launcher, and watches that launcher at once: if it is killed,
this process may have another parent a moment later. The folder form must not do this, because its parent is
the process that started it.
"""

import sys

from gevent_epmd.program import launcher

sys.frozen = "one-file"
launcher.watch()

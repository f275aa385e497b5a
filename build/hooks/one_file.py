"""Runs first in the one-file executable, and only there.

Tells the program that its parent process is the launcher, and looks at the parent at once: if the launcher is
killed, the process has another parent a moment later.  The folder form has no launcher; its parent is the
caller.
"""

import sys

from gevent_epmd.program import launcher

sys.frozen = "one-file"
launcher.watch()

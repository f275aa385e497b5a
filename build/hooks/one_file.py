"""Runs in the one-file executable only, and before anything else.

Tells the program that its parent process is a launcher, and looks at once whose child it is: where that
launcher was killed, it may have another parent a moment later.  The folder form must not take its parent for
a launcher: that is whoever started it.
"""

import sys

from gevent_epmd.program import launcher

sys.frozen = "one-file"
launcher.watch()

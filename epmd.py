"""epmd, the Erlang port mapper daemon, in Python on gevent: the door to lib/gevent_epmd."""

import sys

from gevent_epmd.program.cli import main

if __name__ == "__main__":
    sys.exit(main())

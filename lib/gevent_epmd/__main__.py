"""`python -m gevent_epmd` is `epmd`."""

import sys

from .program.cli import main

if __name__ == "__main__":
    sys.exit(main())

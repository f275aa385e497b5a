"""Runs second in the executables, if the command line is not a quick one: makes all other modules known.

Not in early.py, because the launcher tells only now where the modules are.
"""

import early

early.finder.add_archive()

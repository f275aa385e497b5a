"""Runs in the executables before the program.  Garbage collection during the imports would delay the start of
an epmd by 3 ms and find nothing; `bundle.settle` enables it again.
"""

import gc

gc.disable()

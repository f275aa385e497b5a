"""Runs in the executables before the program.  Imports make no garbage, and looking for it takes 3 ms until
an epmd serves; `bundle.settle` has it looked for again.
"""

import gc

gc.disable()

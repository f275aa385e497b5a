"""Runs in the executables before the program, and turns off garbage collection.

Imports create no garbage, and searching for it adds 3 ms before an epmd serves. `bundle.settle` turns it on
again.
"""

import gc

gc.disable()

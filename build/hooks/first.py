"""Runs in the executable before anything else.

Looks whose child it is: where that launcher was killed, it may have another parent a moment later.
Imports make no garbage, and looking for it takes 3 ms until an epmd serves; `bundle.settle` has it looked for
again."""

import gc

from gevent_epmd.program import launcher

launcher.watch()
gc.disable()

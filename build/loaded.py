"""Prints every module that is loaded when an epmd has done all that it can do; the bundle ships those.

Run by the spec, with the Python and the packages that go into the bundle.
"""

import ipaddress  # noqa: F401 - for -allow
import json  # noqa: F401 - for -json
import sys

import gevent_epmd.answers
import gevent_epmd.calls
import gevent_epmd.cli
import gevent_epmd.client
import gevent_epmd.processes
import gevent_epmd.server
import gevent_epmd.start  # noqa: F401 - imported for the record
from gevent_epmd import bundle
from gevent_epmd.log import Log

Log(to_syslog=True)
bundle.load_everything()
print("\n".join(sys.modules))

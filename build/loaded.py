"""Prints the modules that the bundle ships: those loaded without serving, an empty line, those added by
serving.

The first group is what is loaded after an epmd has done everything that it can do without serving. The spec
runs this, with the Python and the packages that go into the bundle.
"""

import sys

import standins

standins.install()

ASKING = (
    "program.cli",
    "program.calls",
    "program.executable.licences",
    "program.executable.leftovers",
    "client.answers",
    "program.start",
    "program.process.signals",
    "program.check.look",
    "program.check.report",
    "program.takeover",
)
#: For -allow, -json, -check, and the lines that docopt reads.
OPTIONAL = ("ipaddress", "json", "pwd", "docopt")
SERVING = ("program.run", "program.process.privileges", "program.process.store", "program.unit")


def load(*modules: str) -> None:
    for module in modules:
        __import__(module)


load(*OPTIONAL, *(f"gevent_epmd.{module}" for module in ASKING))
from gevent_epmd.server import log  # noqa: E402

log.Log(to_syslog=True)
log.Log().tty(0, "a line of the log, for what it loads")
#: What the module site imports of this host alone: setuptools', and the administrator's.
NOT_OURS = {"_distutils_hack", "sitecustomize", "standins", "usercustomize"}
asking = sys.modules.keys() - NOT_OURS
load(*(f"gevent_epmd.{module}" for module in SERVING))
from gevent import get_hub  # noqa: E402

get_hub().loop  # noqa: B018 - made when it is first asked for
print("\n".join(asking), "\n".join(sys.modules.keys() - NOT_OURS - asking), sep="\n\n")

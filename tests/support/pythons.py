"""A Python whose virtual environments are made quickly."""

from __future__ import annotations

import sys
from pathlib import Path

_PROGRAM = """\
#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
{python} -m venv --without-pip "$3"
echo '#!/bin/sh\nexec {python} -m pip --python "'"$3"'/bin/python" "$@"' >"$3/bin/pip"
chmod 755 "$3/bin/pip"
"""


def quick_python(path: Path) -> Path:
    """Write a program that is this Python, except that `-m venv FOLDER` installs no pip.

    `FOLDER/bin/pip` is the one that is here: to install one takes longer than what most tests install with
    it.
    """
    path.write_text(_PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    return path

"""Prints docs/session.svg: runs the commands of SESSION with dist/epmd, and draws them with their output.

They run in namespaces of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

EXECUTABLE = Path(__file__).parent.parent / "dist" / "epmd"
#: For what hangs, in seconds: a build may share the machine with anything.
PATIENCE = 300
#: The node's port is fixed, so that the picture is the same every time.
NODE = "erl -detached -sname {} -kernel inet_dist_listen_min {} inet_dist_listen_max {}"
SESSION = [
    # It starts the epmd of C.
    NODE.format("shop", 9101, 9101),
    NODE.format("mail", 9102, 9102),
    "epmd -takeover -daemon",
    "epmd -names",
    "epmd -json -names",
    "epmd -kill",
]
#: What differs in each run, or with the Erlang of the host, and what the picture has instead.
SAME = (
    (
        r"process \d+ \(.*?, user",
        "process 17 (C's epmd, /usr/lib/erlang/erts-13.1.5/bin/epmd, user",
    ),
    (r"more than \d+ ms", "more than 9 ms"),
)
#: How wide the terminal is, in characters.
WIDE = 92

CHARACTER, LINE, MARGIN = 8.4, 20, 20
DOTS = ("#ff5f57", "#febc2e", "#28c840")
STYLE = (
    "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "fill:#c9d1d9;white-space:pre}.typed{fill:#fff;font-weight:bold}.prompt{fill:#7ee787}"
)


def main() -> None:
    if len(sys.argv) == 1:
        here = [sys.executable, os.path.abspath(__file__), "inside"]
        up = 'ip link set lo up; exec "$@"'
        # Processes that are still running at the end are killed with the namespace.
        apart = ["--map-root-user", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        os.execvp("unshare", ["unshare", *apart, "sh", "-e", "-c", up, "sh", *here])
    sys.stdout.write(picture(list(session())))


def session() -> Iterator[tuple[bool, str]]:
    """Yield (whether it was typed, line) for each line of the session."""
    with tempfile.TemporaryDirectory() as home:
        shutil.copy(EXECUTABLE, home)
        # An epmd that is killed with the namespaces leaves its unpacked folder here.
        environ = {"HOME": home, "TMPDIR": home, "PATH": f"{home}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        for command in SESSION:
            yield True, command
            done = run(command, environ)
            for pattern, instead in SAME:
                done = re.sub(pattern, instead, done)
            for line in done.splitlines():
                yield from ((False, line[at : at + WIDE]) for at in range(0, len(line), WIDE))
            if command.startswith("erl"):
                wait_for_node(command.split()[3], environ)


def run(command: str, environ: dict[str, str]) -> str:
    how = {"capture_output": True, "text": True, "timeout": PATIENCE, "stdin": subprocess.DEVNULL}
    done = subprocess.run(["sh", "-c", command], env=environ, check=False, **how)
    return done.stdout + done.stderr


def wait_for_node(name: str, environ: dict[str, str]) -> None:
    end_of_patience = time.monotonic() + PATIENCE
    while f"name {name} at" not in run("epmd -names", environ):
        if time.monotonic() > end_of_patience:
            sys.exit(f"session: {name} does not register")
        time.sleep(0.05)


def picture(lines: list[tuple[bool, str]]) -> str:
    width = round(max(len(text) + 2 * typed for typed, text in lines) * CHARACTER) + 2 * MARGIN
    height = LINE * len(lines) + 3 * MARGIN
    rows = [_row(number, *line) for number, line in enumerate(lines)]
    dots = [f'<circle cx="{20 + 18 * n}" cy="20" r="6" fill="{colour}"/>' for n, colour in enumerate(DOTS)]
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            "<title>A session with epmd</title>",
            f"<style>{STYLE}</style>",
            # Dark with a border, so that it can be read on light and on dark pages.
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="#0d1117" '
            'stroke="#8b949e"/>',
            *dots,
            *rows,
            "</svg>\n",
        ]
    )


def _row(number: int, typed: bool, text: str) -> str:  # noqa: FBT001
    y = 2 * MARGIN + LINE * (number + 1) - 5
    if typed:
        text = f'<tspan class="prompt">$</tspan><tspan class="typed"> {escape(text)}</tspan>'
    else:
        text = escape(text)
    return f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{text}</text>'


if __name__ == "__main__":
    main()

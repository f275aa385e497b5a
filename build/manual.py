"""Prints docs/epmd.1, the manual page: the usage text, and the sections that a manual page has besides."""

from __future__ import annotations

import sys

import usage
from gevent_epmd import __version__

HEAD = """\
.\\" Made by scripts/docs from the usage text and build/manual.py.
.TH EPMD 1 2026-11-26 "gevent-epmd {version}" "User Commands"
.SH NAME
epmd \\- the Erlang port mapper daemon
.SH SYNOPSIS
"""

#: What makes bold what usage.mark finds.
BOLD = r"\\fB\1\\fR"

TAIL = """\
.SH EXIT STATUS
.TP
.B 0
Success.
A port that another epmd already serves counts as success, because there is nothing left to do.
.TP
.B 1
Failure; the reason is on stderr, with
.B \\-daemon
in syslog too.
With
.BR \\-started :
no epmd answers.
With
.BR \\-kill :
nodes are registered.
With
.BR \\-check :
something is wrong.
With
.BR \\-port_file " or " \\-pid_file :
also if the port is already in use.
.SH SIGNALS
TERM and INT stop the daemon, and every registration ends with it.
Nodes of OTP 23.3 and later register again with the next epmd by themselves; older ones do not.
After
.B \\-daemon
HUP is ignored.
With
.BR \\-allow_file ,
HUP reads that file again and logs what has changed; no connection is closed.
With
.B \\-systemd
alone, HUP has no effect.
USR1 logs one line with the numbers of nodes, requests and connections, and writes the file of
.BR \\-metrics_file .
.SH SECURITY
Everybody who can reach the port can read the names and ports of the nodes.
Only this host can register nodes and use
.BR \\-dump ", " \\-kill " and " \\-stop .
Use
.B \\-loopback
if all nodes are on one host, and
.B \\-allow
or a firewall if they are not.
.SH FILES
.TP
.I /etc/default/epmd
The variables for the systemd units of the packages, which name it in
.B ERL_EPMD_ALLOW_FILE
too: after a change of the networks there, use
.BR "systemctl reload epmd.service" .
.TP
.IR gevent-epmd.socket ", " gevent-epmd.service
The units of the packages; they listen on loopback.
.B systemctl enable \\-\\-now gevent-epmd.socket
gives them the names
.IR epmd.socket " and " epmd.service .
To listen elsewhere, put a drop-in with
.B ListenStream=
into
.IR /etc/systemd/system/epmd.socket.d .
.SH EXAMPLES
.nf
epmd \\-daemon \\-loopback
epmd \\-names
epmd \\-port 0 \\-port_file port \\-idle_exit 60
epmd \\-check
epmd \\-host db.example \\-check
.fi
.SH SEE ALSO
.BR erl (1),
.BR systemd.socket (5)
"""


def main() -> None:
    parts = [HEAD.format(version=__version__)]
    parts.append(".br\n".join(f".B epmd\n{_text(line)}\n" for line in usage.synopsis()))
    parts.append(f".SH DESCRIPTION\n{_text(usage.introduction())}\n")
    parts.append(
        "Options have one dash and are read from left to right; a later one overrides an earlier one.\n"
        ".SH OPTIONS\n"
    )
    for title, options in usage.sections():
        parts.append(f".SS {_text(title)}\n")
        parts += map(_option, options)
    parts.append(".SH ENVIRONMENT\n")
    parts += (_variables(*item) for item in usage.VARIABLES.items())
    sys.stdout.write("".join(parts) + TAIL)


def _option(option: usage.Option) -> str:
    spellings = ' ", " '.join(_text(spelling) for spelling in option.spellings)
    tag = f'.BI {spellings} " {option.value}"' if option.value else f".BR {spellings}"
    return f".TP\n{tag}\n{_sentences(_text(option.text))}\n"


def _variables(names: str, text: str) -> str:
    tag = names.replace(", ", ' ", " ')
    return f".TP\n.BR {tag}\n{_sentences(usage.mark(text, BOLD).replace('-', chr(92) + '-'))}\n"


def _sentences(text: str) -> str:
    """Each on a line of its own, as troff expects."""
    return text.replace(". ", ".\n")


def _text(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    main()

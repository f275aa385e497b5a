"""Prints docs/epmd.1, the manual page, from the usage text and the sections below."""

from __future__ import annotations

import sys

import usage
from gevent_epmd import __version__

HEAD = """\
.\\" Made by scripts/docs from the usage text and build/manual.py.
.TH EPMD 1 2026-11-23 "gevent-epmd {version}" "User Commands"
.SH NAME
epmd \\- the Erlang port mapper daemon
.SH SYNOPSIS
"""

TAIL = """\
.SH ENVIRONMENT
.TP
.B ERL_EPMD_PORT
The default of
.BR \\-port .
.TP
.B ERL_EPMD_ADDRESS
The default of
.BR \\-address .
.TP
.B ERL_EPMD_LOOPBACK
Set at all, it is
.BR \\-loopback .
An
.B \\-address
on the line counts more.
.TP
.BR ERL_EPMD_ALLOW ", " ERL_EPMD_ALLOW_REGISTER ", " ERL_EPMD_USER
.TQ
.BR ERL_EPMD_IDLE_EXIT ", " ERL_EPMD_PID_EXIT
.TQ
.BR ERL_EPMD_PORT_FILE ", " ERL_EPMD_PID_FILE
The defaults of the options of these names, for an epmd that is to serve.
One that is set to nothing counts as not set.
With a file that only the variable names, a port in use is no failure.
.TP
.B ERL_EPMD_RELAXED_COMMAND_CHECK
Set at all, it is
.BR \\-relaxed_command_check .
.TP
.BR LISTEN_PID ", " LISTEN_FDS ", " NOTIFY_SOCKET
What systemd says, for
.BR \\-systemd .
.TP
.B TMPDIR
Where the one-file form unpacks to; it must not be mounted noexec. The folder form unpacks nothing.
Default: /tmp.
.SH EXIT STATUS
.TP
.B 0
It was done as asked.
A port in use is no error: an epmd runs already, and there is nothing to do.
.TP
.B 1
It was not; the reason is on stderr, or in syslog with
.BR \\-daemon .
With
.B \\-started
that no epmd answers, with
.B \\-kill
that nodes are registered, with
.BR \\-port_file " or " \\-pid_file
also that the port is in use.
.SH SIGNALS
TERM and INT end it, and with it every registration; nodes of OTP 23 and later register with the next one
by themselves.
As a daemon it ignores HUP.
.SH SECURITY
Whoever reaches the port learns the names of the nodes and their ports.
Registrations,
.BR \\-dump ", " \\-kill " and " \\-stop
are for this host alone.
Use
.B \\-loopback
where the nodes are on one host, and
.B \\-allow
or a firewall where they are not.
.SH EXAMPLES
.nf
epmd \\-daemon \\-loopback
epmd \\-names
epmd \\-port 0 \\-port_file port \\-idle_exit 60
.fi
.SH SEE ALSO
.BR erl (1),
.BR systemd.socket (5)
"""


def main() -> None:
    parts = [HEAD.format(version=__version__)]
    parts.append(".br\n".join(f".B epmd\n{_text(line)}\n" for line in usage.synopsis()))
    parts.append(f".SH DESCRIPTION\n{_text(usage.introduction())}\n")
    parts.append("Options have one dash and are read from left to right; later ones win.\n.SH OPTIONS\n")
    for title, options in usage.sections():
        parts.append(f".SS {_text(title)}\n")
        parts += map(_option, options)
    sys.stdout.write("".join(parts) + TAIL)


def _option(option: usage.Option) -> str:
    spellings = ' ", " '.join(_text(spelling) for spelling in option.spellings)
    tag = f'.BI {spellings} " {option.value}"' if option.value else f".BR {spellings}"
    # One sentence per line, as troff expects.
    return f".TP\n{tag}\n{_text(option.text).replace('. ', '.' + chr(10))}\n"


def _text(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    main()

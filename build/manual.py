"""Prints docs/epmd.1, the manual page: the usage text, and the sections that a manual page has besides."""

from __future__ import annotations

import sys

import usage
from gevent_epmd import __version__
from gevent_epmd.program.check.finding import CODES

HEAD = """\
.\\" Made by scripts/docs from the usage text and build/manual.py.
.TH EPMD 1 2026-11-30 "gevent-epmd {version}" "User Commands"
.SH NAME
epmd \\- the Erlang port mapper daemon
.SH SYNOPSIS
"""

#: What makes bold what usage.mark finds.
BOLD = r"\\fB\1\\fR"

#: {codes} are those of the check.
CHECK = """\
.SH CHECK
.B epmd \\-check
looks at the epmd of this host, of C or this one, and at its nodes.
It examines:
.IP \\- 2
the port: an epmd, another program, a forwarder to an epmd elsewhere, or nothing;
.IP \\-
the process: program, version, user, options and variables, whether it is stopped, and whether its file was
replaced since, so that a hand\\-over is due;
.IP \\-
its limits: how many descriptors and places for nodes are taken;
.IP \\-
epmds at other ports, and units of epmd that are masked or failed;
.IP \\-
each address and each name of this host: whether the epmd answers where nodes look for it;
.IP \\-
each registered node: whether its port accepts a connection, and which process listens there;
.IP \\-
who may ask the epmd, and who may stop it.
.PP
It changes nothing, asks the epmd as a node does, and connects to each node as a port scanner does.
Steps that get no answer end after 1.5 seconds, and the whole after 10.
Only root sees the processes of other users.
With
.BR \\-host ,
it examines another host, as far as it can be seen from here.
.SS Output
Each line begins with
.BR wrong ", " warning " or " ok ,
in this order; a line that begins with
.B \\->
is the remedy for the one above it.
The last line counts them.
.TP
.B \\-json
One object on one line.
Its findings have codes that do not change between versions.
The package brings a schema of it,
.IR check.schema.json .
.TP
.B \\-nagios
One line with performance data.
.TP
.BI \\-accept " Codes"
Warnings with these codes count as ok; what is wrong cannot be accepted.
Each topic has its codes:
.RS
{codes}.RE
.SS Exit status of the check
.TP
.B 0
Nothing is wrong; there may be warnings.
.TP
.B 1
Something is wrong, or the command line is.
.PP
With
.BR \\-nagios :
0 for ok, 1 for a warning, 2 if something is wrong, 3 for an invalid command line.
"""

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
TERM and INT stop the daemon, and every registration ends with it, unless systemd keeps the connections
.RB ( FileDescriptorStoreMax= )
and restarts the unit.
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
Only this host can use
.BR \\-dump ", " \\-kill " and " \\-stop ,
and register nodes, unless
.B \\-allow_register
admits others.
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
Serve this host only, and list the nodes:
.PP
.nf
epmd \\-daemon \\-loopback
epmd \\-names
.fi
.PP
Find out which epmd runs, who may ask it and what is wrong; the same of another host, for a monitoring
system, and for a script:
.PP
.nf
epmd \\-check
epmd \\-host db.example \\-check
epmd \\-check \\-nagios \\-accept open,hidden
epmd \\-check \\-json
.fi
.PP
Replace an epmd that a node or a person has started, as the user of the nodes; the nodes stay registered:
.PP
.nf
epmd \\-takeover \\-daemon \\-user rabbitmq
.fi
.PP
Replace one that systemd runs; its unit says how it serves:
.PP
.nf
epmd \\-takeover
.fi
.PP
Answer the hosts of a cluster only, and change that without an interruption:
.PP
.nf
epmd \\-daemon \\-user epmd \\-pid_file /run/epmd.pid \\-allow_file /etc/default/epmd
kill \\-HUP $(cat /run/epmd.pid)
.fi
.PP
Serve the containers of this host:
.PP
.nf
epmd \\-daemon \\-allow_register 172.17.0.0/16
.fi
.PP
Serve a test at any free port, and end with it:
.PP
.nf
epmd \\-daemon \\-port 0 \\-port_file port \\-pid_exit $$
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
    parts.append(CHECK.format(codes="".join(_codes(*item) for item in CODES.items())))
    sys.stdout.write("".join(parts) + TAIL)


def _codes(topic: str, codes: tuple[str, ...]) -> str:
    return f".TP 10\n.B {topic}\n{', '.join(codes)}\n"


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

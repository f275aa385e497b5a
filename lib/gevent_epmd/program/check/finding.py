"""`epmd -check`, one result of the check, and the words for it that do not change between versions."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, WRONG = "ok", "warning", "wrong"

_OF_ADDRESSES = ("answers", "refused", "timeout", "unreachable", "absent", "mute", "closed", "stranger")
#: The codes of each topic.
CODES: dict[str, tuple[str, ...]] = {
    "epmd": (*_OF_ADDRESSES, "forwarder"),
    "process": ("ours", "c", "other", "stopped", "several", "hidden", "outdated", "erl", "other_network"),
    "limits": ("nearly_full", "full"),
    "unit": ("masked", "failed", "inactive"),
    "port": ("other_port",),
    "address": (*_OF_ADDRESSES, "late"),
    "name": ("found", "nxdomain", "foreign", "ipv6", "ip_address", "late", *_OF_ADDRESSES),
    "node": (
        *("answers", "dead", "refused", "blocked", "elsewhere", "lookup", "gone", "no_port", "late"),
        *("remote", "stopped", "taken", "version", "host"),
    ),
    "exposure": ("open", "allow", "loopback", "register", "relaxed", "asked"),
}


class Finding(NamedTuple):
    """One result of the check.

    `topic` and `code` are words of CODES, for programs. `state` is OK, WARNING or WRONG. `subject`, `seen`
    and `to_do` are texts for people; `to_do` is empty if there is nothing to do. `accepted` is True for a
    warning that the caller accepts: its state is OK then.
    """

    topic: str
    subject: str
    state: str
    code: str
    seen: str
    to_do: str = ""
    accepted: bool = False

"""Drops root privileges for good: `look_up` finds the user first, `take_on` changes to it once the port is
bound.

Invariant: after `take_on` the process has no way back to root; otherwise `take_on` raises.

Python's os module changes users and groups. Capabilities and no_new_privs need `_ctypes`: with the package
ctypes in the executable, every start would import it. A Python without `_ctypes` skips these calls: the
kernel clears the capabilities when the user changes from root, and `take_on` verifies this.

Source: capabilities(7), prctl(2), capset(2).
"""

from __future__ import annotations

import grp
import os
import pwd
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

from ...conventions import ValueProblem, read_number
from ..options import Given

#: (uid_t)-1 means "unchanged" to the kernel.
_MOST_ID = 2**32 - 2
_ROOT = 0

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
#: Linux 6 has 41 capabilities. The kernel rejects numbers that are not assigned.
_MOST_CAPABILITIES = 64
#: struct __user_cap_header_struct: the version, and 0 for this process. Then two __user_cap_data_struct.
_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)
_NO_CAPABILITIES = bytes(24)


def _system_call(name: str) -> Callable[..., object]:
    """Return a function of the C library that takes numbers and bytes, or that does nothing.

    `Identity.take_on` verifies the effect instead of the return value.
    """
    try:
        import _ctypes

        # None opens the program itself, which includes the C library.
        address = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]
    except (ImportError, OSError):
        return lambda *_: None
    return lambda *arguments: _ctypes.call_cdeclfunction(address, arguments)


_prctl = _system_call("prctl")
_capset = _system_call("capset")


class Identity(NamedTuple):
    """The user to serve as. `where` is the option or variable that names the user, for error messages."""

    where: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def take_on(self) -> None:
        """Change to this user and these groups, irrevocably. Raises OSError if some privilege stays."""
        if sys.platform != "linux":
            raise NotImplementedError("only Linux can do this")
        # Only root may drop capabilities from the bounding set. Where that is forbidden, the set stays.
        for capability in range(_MOST_CAPABILITIES):
            _prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        try:
            os.setgroups(self.groups)
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; {self.where}: cannot change the user") from None
        # A change of the user keeps the inheritable capabilities, and keeps all of them if the securebits
        # require it. Clearing the sets here clears the ambient ones too. keep-caps, which would also keep
        # some, is off in every new program.
        _capset(_CAPABILITY_HEADER, _NO_CAPABILITIES)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        left = _capabilities()
        if os.getresgid() != (self.gid,) * 3 or {self.gid, *os.getgroups()} != {self.gid, *self.groups}:
            left = "the groups of root"
        if os.getresuid() != (self.uid,) * 3 or _can_be_root():
            left = "the user ID of root"
        if left:
            raise PermissionError(f"{self.where}: cannot drop {left}")


def look_up(user: Given) -> Identity:
    """Return the user that `Name` or `Name:Group` stands for. Each of the two is a name or a number.

    Raises ValueProblem if the user or group does not exist, if it has rights of root, or if this process may
    not change users.
    """
    where, (name, colon, group) = user.where, user.value.partition(":")
    if sys.platform != "linux":
        raise ValueProblem(f"{where}: this works on Linux only")
    if os.geteuid() != _ROOT:
        raise ValueProblem(f"{where}: only root can serve as another user")
    uid, entry = _user(where, name)
    if uid == _ROOT:
        raise ValueProblem(f"{where}: {name} is root: name an unprivileged user")
    if not colon and entry is None:
        raise ValueProblem(f"{where}: no user has the ID {uid}, so name a group too, as {uid}:{uid}")
    gid = _group(where, group) if colon or entry is None else entry.pw_gid
    # As systemd does for User= and Group=: all groups of the user, with this one first.
    groups = os.getgrouplist(entry.pw_name, gid) if entry else [gid]
    if _ROOT in groups:
        raise ValueProblem(f"{where}: {user.value} is in the group of root: name an unprivileged group")
    return Identity(where, uid, gid, tuple(groups))


def _user(where: str, text: str) -> tuple[int, pwd.struct_passwd | None]:
    try:
        entry = pwd.getpwnam(text)
    except KeyError:
        uid = _number(where, "user", text)
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return uid, None
    return entry.pw_uid, entry


def _group(where: str, text: str) -> int:
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        return _number(where, "group", text)


def _number(where: str, what: str, text: str) -> int:
    try:
        return read_number(where, text, _MOST_ID, least=0)
    except ValueProblem:
        raise ValueProblem(f'{where}: there is no {what} "{text}"') from None


def _can_be_root() -> bool:
    try:
        os.seteuid(_ROOT)
    except OSError:
        return False
    return True


def _capabilities() -> str:
    """Return a set in which this process has capabilities, or could get some, or ""."""
    try:
        with open("/proc/self/status") as status:
            lines = dict(line.rstrip().split(":\t", 1) for line in status if line.startswith("Cap"))
    except OSError:
        return ""  # no /proc
    kinds = [kind for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(lines.get(kind, "0"), 16)]
    return f"the capabilities {kinds[0]}" if kinds else ""

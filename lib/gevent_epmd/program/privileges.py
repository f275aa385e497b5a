"""Root's rights, given up for good: who is to serve is looked up first, and taken on once the port is bound.

Python knows the calls that change users and groups.  Those for capabilities and no_new_privs are made with
`_ctypes`, since an executable that holds the package ctypes imports it at each start.  A Python without
`_ctypes` does without them: where the user changes from root the kernel takes the capabilities, and
`_check` looks whether it has.

Source: capabilities(7), prctl(2), capset(2).
"""

from __future__ import annotations

import grp
import os
import pwd
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..conventions import ValueProblem, read_number
from .options import Given

#: (uid_t)-1 means "unchanged" to the kernel.
_MOST_ID = 2**32 - 2
_ROOT = 0

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
#: There are 41 in Linux 6; the kernel refuses numbers that are no capability.
_MOST_CAPABILITIES = 64
#: struct __user_cap_header_struct: the version, and 0 for this process; and two times __user_cap_data_struct.
_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)
_NO_CAPABILITIES = bytes(24)


def _system_call(name: str) -> Callable[..., object]:
    """A function of the C library, which takes numbers and bytes.  It does nothing where it cannot be had.
    Nobody looks at what it returns: `Identity._check` looks at what has become of it."""
    try:
        import _ctypes

        # None is the program itself, and with it the C library.
        address = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]
    except (ImportError, OSError):
        return lambda *_: None
    return lambda *arguments: _ctypes.call_cdeclfunction(address, arguments)


_prctl = _system_call("prctl")
_capset = _system_call("capset")


class Identity(NamedTuple):
    """Who is to serve; `where` is the option or the variable that says so."""

    where: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def take_on(self) -> None:
        """Become this user, in these groups, without a way back.  Raises OSError where that is not to be had
        in full."""
        # Only root may take from the bounding set; where it may not either, as in some containers, it stays.
        for capability in range(_MOST_CAPABILITIES):
            _prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        try:
            os.setgroups(self.groups)
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; {self.where}: cannot change the user") from None
        # A change of the user leaves the inheritable ones, and all of them where securebits say so.  The
        # ambient ones go with these; keep-caps, which would leave more, is off in every new program.
        _capset(_CAPABILITY_HEADER, _NO_CAPABILITIES)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        self._check()

    def _check(self) -> None:
        for left in self._left_of_root():
            raise PermissionError(f"{self.where}: {left} cannot be given up here")

    def _left_of_root(self) -> Iterator[str]:
        if os.getresuid() != (self.uid,) * 3 or _works(os.seteuid, _ROOT):
            yield "the user root"
        if os.getresgid() != (self.gid,) * 3 or {self.gid, *os.getgroups()} != {self.gid, *self.groups}:
            yield "the groups of root"
        yield from _capabilities()


def look_up(user: Given) -> Identity:
    """Who is meant by Name or Name:Group, each a name or else a number.  Raises ValueProblem where there is
    no such user or group, and where this process may not become another user."""
    where, (name, colon, group) = user.where, user.value.partition(":")
    if os.geteuid() != _ROOT:
        raise ValueProblem(f"{where}: only root can serve as another user")
    uid, entry = _user(where, name)
    if uid == _ROOT:
        raise ValueProblem(f"{where}: {name} is root, whose rights are to be given up")
    if not colon and entry is None:
        raise ValueProblem(f"{where}: name a group too, as {uid}:{uid}: no list of users has {uid}")
    gid = _group(where, group) if colon or entry is None else entry.pw_gid
    # What systemd does with User= and Group=: this user's groups, and this one first.
    groups = os.getgrouplist(entry.pw_name, gid) if entry else [gid]
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


def _works(call: Callable[[int], object], argument: int) -> bool:
    try:
        call(argument)
    except OSError:
        return False
    return True


def _capabilities() -> Iterator[str]:
    """Those that this process has, or can get."""
    try:
        with open("/proc/self/status") as status:
            lines = dict(line.rstrip().split(":\t", 1) for line in status if line.startswith("Cap"))
    except OSError:
        return  # no /proc
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        if int(lines.get(kind, "0"), 16):
            yield f"the capabilities {kind}"

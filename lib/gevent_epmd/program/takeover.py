"""Takes the place of a running epmd, C's or this one, while its nodes stay registered.

The epmd that serves the port, the former one, is asked for its nodes (DUMP, and PORT2 for each). Then it is
stopped (SIGSTOP), its listening sockets and its nodes' connections are copied into this process
(pidfd_getfd), and it is killed. A copied socket is the same connection: the peers notice nothing, and
connections that wait to be accepted still wait.

Invariants:
- Whatever can be slow or can fail is done before the former epmd is stopped, or while it can be continued.
- A guard, which is a process of its own, is the only one that continues or ends the former epmd once it is
  stopped. It continues it if this process ends, or takes longer than `_MOST_STOPPED`.
- Every connection of the former epmd is accounted for: it is a node's, its request has not been read yet, it
  waits for its peer to close, or the former epmd is continued and asked again.

Source: pidfd_open(2), pidfd_getfd(2), tcp(7) and linux/tcp.h (struct tcp_info).
Needs Linux 5.6.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select
import signal
import stat
import struct
import sys
import time

from .. import __version__
from ..client import answers, exchange
from ..protocol import Alive2Request, Port2Request, ProtocolError, names_line
from ..server.listeners import ListenError, change_addresses, close_all
from ..server.registry import CREATIONS_NAME
from ..wire import DUMP_REQ, HEADER, LISTING_PORT_SIZE
from .process import procfs
from .process.daemon import close_inherited, reap
from .process.watch import descriptor_of, state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeAlias

    from ..server.acceptor import Acceptor
    from ..server.events import Events
    from ..server.inherit import Inheritance
    from ..server.mapper import Mapper
    from .options import Options

    #: A node's name, its descriptor in the former epmd, and the inode of that.
    Key: TypeAlias = tuple[bytes, int, str]
    #: The nodes and the remembered names, each of them with its descriptor.
    Asked: TypeAlias = tuple[list[Key], list[tuple[Alive2Request, int]]]

#: How long the former epmd may be stopped, in seconds.
_MOST_STOPPED = 1.0
#: How often to ask the former epmd for its nodes, and how often to stop it after each answer. Every second
#: stop meets a connection that has come since: beside two nodes that come and go without pause on a busy
#: machine, or beside many clients. Most of those have gone at the next stop, and then the answer still holds.
_TRIES, _STOPS = 10, 5
#: After how many answers in a row a connection may be found that is not finished.
_PATIENCE = 7
#: Time between two stops after one answer, and before the next answer, in seconds: it lets the former epmd
#: finish what it has begun.
_MOMENT, _PAUSE = 0.003, 0.03
#: The system call pidfd_getfd has the same number on every architecture.
_PIDFD_GETFD = 438
#: The ioctl request of asm-generic/ioctls.h for the bytes that wait to be read.
_FIONREAD = 0x541B
#: In struct tcp_info: the state, bytes_received and bytes_sent.
_STATE, _BYTES_RECEIVED, _BYTES_SENT, _TCP_INFO_SIZE = 0, 128, 200, 208
_CLOSE_WAIT = 8
_NORMAL_NODE = 77
#: The sizes of the replies to ALIVE2 with a creation of 16 and of 32 bits, and of the smallest such request.
_ALIVE2_REPLIES, _LEAST_ALIVE2 = (4, 6), 16

_INSTEAD = "instead, end it and start this one: nodes since OTP 23.3 register again after two seconds"
_NOT_PERMITTED = (
    "only root may copy its sockets, or the user that it runs as, if kernel.yama.ptrace_scope is 0 and it "
    f"has not changed its user; {_INSTEAD}"
)

#: What the guard is told to do. It repeats the word once that is done.
_STOP, _GO_ON, _END = b"s", b"c", b"e"
#: How much of the reason of a failure is told, in bytes: what a pipe takes at once.
_MOST_TOLD = 4096


class TakeOverError(ListenError):
    """The former epmd cannot be replaced, and goes on as before. The message gives the reason."""


class _Changed(Exception):
    """The former epmd did something between its answer and its stop.

    `odd` are the inodes of connections that are neither a node's nor unread.
    """

    def __init__(self, odd: set[str]) -> None:
        self.odd = odd


class Former:
    """The epmd that serves the port, and is to be replaced."""

    def __init__(self, process: procfs.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.is_ours = process.kind == procfs.OURS
        #: The unit whose sockets it serves, or "". A unit's end makes systemd accept connections at the same
        #: sockets, and start another epmd.
        self.unit = procfs.unit(process.pid) if "-systemd" in procfs.command_line(process.pid) else ""

    def files(self) -> list[tuple[str, os.stat_result]]:
        """Return the paths of its pid file and its port file, which it keeps open, and which files they are.

        C's epmd has none.
        """
        found = []
        process = f"/proc/{self.process.pid}"
        for descriptor, path in procfs.open_files(self.process.pid) if self.is_ours else ():
            try:
                about = os.stat(f"{process}/fd/{descriptor}")
                if not stat.S_ISREG(about.st_mode):
                    continue
                with open(f"{process}/fd/{descriptor}", "rb") as file:  # the path may lead elsewhere by now
                    content = file.read(16)
                # Any user can run an epmd that keeps some file open. A number that only root or that user has
                # written there proves that the file is about this process.
                is_of_user = about.st_uid == os.stat(process).st_uid
                if content == b"%d\n" % self.process.pid or (content == b"%d\n" % self.port and is_of_user):
                    found.append((path, about))
            except OSError:
                continue  # closed meanwhile
        return found

    def must_be_replaceable(self) -> None:
        """Raise TakeOverError if its end would have other consequences, as that of a container."""
        pid = self.process.pid
        if "-systemd" in procfs.command_line(pid) and not self.unit:
            raise TakeOverError(f"cannot take over from {self}: it serves the sockets of another process")
        parent = procfs.parent(pid)
        if procfs.program(parent) != self.process.path:
            parent = pid  # it has no launcher
        if procfs.innermost_pid(parent) == 1:
            raise TakeOverError(
                f"cannot take over from {self}: it is process 1 of a container, which ends with it"
            )

    def __str__(self) -> str:
        process = self.process
        kinds = {procfs.C: "C's epmd of ", procfs.OURS: "gevent-epmd "}
        what = kinds[process.kind] + process.version if process.version else "an epmd"
        # Any user can have served the port: whoever takes over must see whose it was.
        facts = [what, process.path, f"user {process.user}" if process.user else ""]
        return f"process {process.pid} ({', '.join(filter(None, facts))})"


def find(options: Options) -> Former | None:
    """Return the epmd of this host that is to be replaced, or None if the start goes on as ever.

    Raises TakeOverError if there is one that cannot be replaced.
    """
    port = options.port
    listening = (procfs.listeners() or {}).get(port, [])
    holders = procfs.processes(listening)
    epmds = [process for process in holders if process.kind != procfs.OTHER]
    if len(epmds) > 1:
        pids = " and ".join(str(process.pid) for process in epmds)
        raise TakeOverError(f"cannot take over: processes {pids} both listen at port {port}")
    if not epmds:
        if listening:
            _must_be_no_epmd(port, holders)
        return None
    former = Former(epmds[0], port)
    program = (procfs.OURS, __version__, procfs.program(os.getpid()))
    if options.takeover == "other" and (epmds[0].kind, epmds[0].version, epmds[0].path) == program:
        return None
    former.must_be_replaceable()
    if former.unit and options.listen_names:
        raise TakeOverError(
            f"cannot take over from {former}: {options.listen_names[0]} has no effect on {former.unit}"
        )
    return former


def _target(port: int) -> exchange.Target:
    return exchange.Target("", port, exchange.TIMEOUT)


def listing(port: int, request: int) -> bytes:
    """Ask the epmd of this host for NAMES or DUMP. Raises EpmdError."""
    with exchange.Listing(_target(port), request) as reply:
        return exchange.joined(reply.pieces())


def _must_be_no_epmd(port: int, holders: list[procfs.Process]) -> None:
    """Raise TakeOverError if an epmd answers at the port, whose process is hidden or is another program."""
    if not exchange.is_an_epmd(_target(port)):
        return  # the start says what it found instead
    if not holders:
        raise TakeOverError(f"cannot take over: only root can see which process serves port {port}")
    raise TakeOverError(
        f"cannot take over: the epmd at port {port} is part of another program, process {holders[0].pid}"
        f" ({holders[0].path})"
    )


class Ending:
    """How the guard ends the former epmd: by SIGKILL. `keep` are the descriptors that it needs for that."""

    keep: tuple[int, ...] = ()

    def __init__(self, former: Former) -> None:
        # The former epmd cannot remove them any more, and the guard keeps the rights that the new epmd gives
        # up for -user.
        self._files = former.files()

    def end(self, pidfd: int) -> str:
        """End the former epmd. Returns the reason if that fails."""
        _send(pidfd, signal.SIGKILL)
        for path, about in self._files:
            try:
                if os.path.samestat(os.lstat(path), about):  # or else another process has replaced it
                    os.unlink(path)
            except OSError:
                pass  # it is gone, or not ours to remove
        return ""

    def undo(self) -> None:
        """The former epmd goes on for good: undo what was prepared for its end."""


class TakeOver:
    """One take-over. Create it before gevent is imported, call `new_mapper`, then `finish` or `abandon`."""

    def __init__(self, former: Former, ending: Ending | None = None) -> None:
        """Start the guard. Raises TakeOverError if this process may not copy the sockets."""
        self._former = former
        #: Those of the former epmd on whose addresses this one does not listen.
        self._retiring: list[Acceptor] = []
        self._pid = former.process.pid
        try:
            self._pidfd = descriptor_of(self._pid)
            self._get_fd = _get_fd_function()
            self._must_be_permitted()
        except PermissionError:
            raise TakeOverError(f"cannot take over from {former}: {_NOT_PERMITTED}") from None
        except (AttributeError, ImportError, OSError) as error:
            raise TakeOverError(f"cannot take over from {former}: {error}; {_INSTEAD}") from None
        #: What is known of the nodes.
        self._known: dict[Key, Alive2Request] = {}
        #: The inodes of connections that were neither a node's nor unread, and after how many answers.
        self._odd: dict[str, int] = {}
        #: The inodes of connections of refused nodes.
        self._refused: set[str] = set()
        #: When the former epmd was stopped.
        self._stopped_at = 0.0
        #: What `finish` tells.
        self._nodes, self._changes, self._keeps_user = 0, "", True
        self._guard = _Guard(self._pidfd, self._pid, ending or Ending(former))
        #: Lets the former epmd go on. Does nothing after its end.
        self.abandon = self._guard.release

    def new_mapper(self, options: Options, events: Events) -> Mapper:
        """Stop the former epmd, and return a mapper with its sockets and nodes, which may start at once.

        Raises TakeOverError, and lets the former epmd go on then. Call this with gevent imported.
        """
        # These import gevent, and the guard was to be forked before that.
        from ..server import acceptor
        from ..server.inherit import inherit

        try:
            listeners, left = self._take()
            retiring: list[_socket.socket] = []
            if options.listen_names:
                before = len(listeners)
                listeners, retiring = change_addresses(listeners, options.settings.addresses)
                if retiring or len(listeners) > before:
                    self._changes = _changed_addresses(listeners, retiring)
            mapper = acceptor.new_mapper(options.settings, listeners, events)
            self._retiring += (acceptor.Acceptor(mapper, sock, shared=False) for sock in retiring)
            mapper.listeners += self._retiring
            inherit(mapper, left)
            self._nodes, self._keeps_user = len(left.nodes), not options.user.value
            return mapper
        except BaseException as error:
            self.abandon()
            if isinstance(error, TakeOverError) or not isinstance(error, Exception):
                raise
            raise TakeOverError(f"cannot take over from {self._former}: {error}") from error

    def copy(self) -> Inheritance:
        """Stop the former epmd, and return copies of its connections. `abandon` lets it go on."""
        listeners, left = self._take()
        close_all(listeners)
        return left

    def must_be_stopped(self) -> None:
        """Raise TakeOverError if this has taken so long that the former epmd goes on."""
        self._guard.order(_STOP)

    def end(self) -> None:
        """End the former epmd. Raises TakeOverError if it goes on."""
        self._guard.order(_END)
        self._guard.release()

    def finish(self) -> list[str]:
        """Kill the former epmd, and return lines for the log. From now on this process must serve.

        Raises TakeOverError if the former epmd was continued meanwhile.
        """
        self.end()
        report = [self.told(self._nodes) + self._changes]
        user = self._former.process.user
        now = procfs.user_name(os.geteuid()) if self._keeps_user else user
        if user not in ("", now):
            # Nothing else tells: it serves as ever, with rights that it does not need.
            again = f"-user {user}:Group" if user.isdecimal() else f"-user {user}"
            report.append(
                f"this epmd runs as {now}, and that one ran as {user}: to change it, "
                f"take over again with {again}"
            )
        os.close(self._pidfd)
        for listener in self._retiring:
            listener.retire()
        return report

    def told(self, nodes: int, how: str = "") -> str:
        """Return what to tell the user of a take-over that has just succeeded."""
        took = (time.monotonic() - self._stopped_at) * 1000
        count = f"{nodes} node{'' if nodes == 1 else 's'}"
        return f"took over {count} from {self._former}{how}; no answer was delayed by more than {took:.0f} ms"

    def _take(self) -> tuple[list[_socket.socket], Inheritance]:
        for _ in range(_TRIES):
            asked = self._ask()
            met: set[str] = set()
            for _ in range(_STOPS):
                try:
                    return self._copy_stopped(asked)
                except _Changed as changed:
                    odd = changed.odd
                new = odd - self._odd.keys()
                if not new or new & met:
                    break  # what stays is not in this answer
                met = new
                time.sleep(_MOMENT)
            self._odd = {inode: self._odd.get(inode, 0) + 1 for inode in odd}
            time.sleep(_PAUSE)
        raise TakeOverError(
            f"cannot take over from {self._former}: it is serving requests, {_TRIES} times in a row"
        )

    def _copy_stopped(self, asked: Asked) -> tuple[list[_socket.socket], Inheritance]:
        """Stop the former epmd and copy its sockets. If that raises _Changed, it goes on."""
        self._guard.order(_STOP)
        self._stopped_at = time.monotonic()
        copies: list[_socket.socket] = []
        try:
            return self._copy(asked, copies)
        except _Changed:
            # A copy that stays open would keep a connection open that the former epmd closes.
            close_all(copies)
            self._guard.order(_GO_ON)
            raise

    def _must_be_permitted(self) -> None:
        """Raise OSError if this process cannot copy the sockets."""
        for fd in self._sockets():
            try:
                os.close(self._get_fd(self._pidfd, fd))
            except OSError as error:
                if error.errno != errno.EBADF:  # closed meanwhile
                    raise
            else:
                return
        raise OSError("it has no sockets")

    # --- Before the stop ---

    def _ask(self) -> Asked:
        """Ask the former epmd for its nodes, the oldest first, and for the names that it remembers."""
        before = self._sockets()
        dump = answers.parse_dump(listing(self._former.port, DUMP_REQ))
        after = self._sockets()
        nodes = []
        for node in reversed(dump.active):
            inode = after.get(node.fd, "")
            key = (os.fsencode(node.name), node.fd, inode)
            # A descriptor that was another socket before the answer need not be this node's.
            if key not in self._known and inode and inode == before.get(node.fd):
                self._known[key] = self._look_up(key[0], node.port)
            if key in self._known:
                nodes.append(key)
        return nodes, [(_request(os.fsencode(n.name), n.port), n.fd) for n in dump.unused]

    def _look_up(self, name: bytes, port: int) -> Alive2Request:
        """Ask for what the node registered with. It may have ended meanwhile; then its socket has changed."""
        try:
            with exchange.Call(_target(self._former.port), Port2Request(name).packet()) as call:
                found = answers.registration_of(exchange.joined(call.pieces()))
        except ProtocolError:
            found = None
        # C's epmd does not answer a look-up of a name of 255 characters. Nodes speak the versions 5 to 6.
        return found or _request(name, port)

    def _sockets(self) -> dict[int, str]:
        """Return the descriptors of the former epmd's sockets, with their inodes."""
        return {fd: link for fd, link in procfs.open_files(self._pid) if link.startswith("socket:[")}

    # --- While it is stopped ---

    def _copy(self, asked: Asked, copies: list[_socket.socket]) -> tuple[list[_socket.socket], Inheritance]:
        """Copy the sockets of the stopped epmd to `copies`, and account for each. Raises _Changed."""
        asked_nodes, remembered = asked
        there = self._sockets().items()
        live = [key for key in asked_nodes if key[1:] in there]  # the others have ended since
        lines = (names_line(self._known[key].name, self._known[key].port) for key in live)
        size = LISTING_PORT_SIZE + sum(map(len, lines))
        listeners, rest = [], {}
        for fd, inode in sorted(there - {key[1:] for key in live}):
            sock = self._copied(fd, copies)
            if sock is not None and sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN):
                listeners.append(sock)
            elif sock is not None:
                rest[inode] = sock
        # Before the nodes, which may be many: most stops that fail do so here.
        unread, answered = self._sorted(rest, size)
        nodes = []
        for key in live:
            sock = self._copied(key[1], copies)
            if sock is not None:
                nodes.append((self._known[key], sock))
        from ..server.inherit import Inheritance

        return listeners, Inheritance(nodes, unread, answered, remembered, self._creation())

    def _copied(self, fd: int, copies: list[_socket.socket]) -> _socket.socket | None:
        """Copy a socket of the former epmd, also to `copies`.

        Returns None if it is not of its port, such as one to syslog.
        """
        sock = _socket.socket(fileno=self._get_fd(self._pidfd, fd))
        if sock.family in (_socket.AF_INET, _socket.AF_INET6):
            try:
                if sock.getsockname()[1] == self._former.port:
                    copies.append(sock)
                    return sock
            except OSError:
                pass  # closed by both ends
        sock.close()
        return None

    def _sorted(
        self, connections: dict[str, _socket.socket], size: int
    ) -> tuple[list[_socket.socket], list[_socket.socket]]:
        """Return the connections whose request is unread, and those that wait for their peer to close.

        The keys of `connections` are the inodes of the sockets. `size` is that of the reply to NAMES.

        A connection with a complete reply is in neither list: it is closed, as the former epmd was about to
        do. One of another state is being served, or has sent half a request, or does not read its reply. The
        former epmd may finish it if it is continued. One that is still there after `_PATIENCE` answers has no
        claim: it is closed. Raises _Changed.
        """
        unread, answered, odd = [], [], set()
        met = self._odd.keys() | self._refused
        for inode, sock in connections.items():
            received, sent = _traffic(sock)
            if received == _waiting(sock):
                unread.append(sock)
            elif sent in _ALIVE2_REPLIES and received >= _LEAST_ALIVE2 and inode in met:
                # The last DUMP, which came after its reply, did not list it: its node was refused.
                answered.append(sock)
                self._refused.add(inode)
            elif not _is_answered(received, sent, size):
                odd.add(inode)
        if any(self._odd.get(inode, 0) + 1 < _PATIENCE for inode in odd):
            raise _Changed(odd)
        return unread, answered

    def _creation(self) -> int:
        """Return the greatest creation that the former epmd has recorded, or 0. C's epmd records none."""
        for fd, link in procfs.open_files(self._pid) if self._former.is_ours else ():
            if link.startswith(f"/memfd:{CREATIONS_NAME}"):
                with open(self._get_fd(self._pidfd, fd), "rb", 0) as copy:
                    return int.from_bytes(os.pread(copy.fileno(), 8, 0), "big")
        return 0


def _request(name: bytes, port: int) -> Alive2Request:
    """Return what a node has probably registered with, if only its name and port are known."""
    return Alive2Request(port, _NORMAL_NODE, 0, 6, 5, name)


def _is_answered(received: int, sent: int, size: int) -> bool:
    """Return whether a connection of these counts of bytes has got its whole reply, and is to be closed.

    `size` is that of the reply to NAMES. Requests of 3 bytes are NAMES, DUMP and KILL. Every other reply but
    that to ALIVE2 is sent at once.
    """
    if received == HEADER + 1:
        return sent == size
    return sent > 0 and sent not in _ALIVE2_REPLIES


def _changed_addresses(listeners: list[_socket.socket], retiring: list[_socket.socket]) -> str:
    """Return the end of the report if it no longer listens on some address, or listens on another one."""
    now, former = (
        " and ".join(sock.getsockname()[0] for sock in sockets) for sockets in (listeners, retiring)
    )
    return f"; it listens on {now}{', and no longer on ' if former else ''}{former}"


def _traffic(sock: _socket.socket) -> tuple[int, int]:
    """Return how many bytes have been received and sent on a connection."""
    if sys.platform != "linux":
        return 0, 0  # for type checkers: only Linux comes here
    info = sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _TCP_INFO_SIZE)
    received, sent = (
        int.from_bytes(info[at : at + 8], sys.byteorder) for at in (_BYTES_RECEIVED, _BYTES_SENT)
    )
    # The kernel counts the end of the peer's data as a byte.
    return received - (info[_STATE] == _CLOSE_WAIT), sent


def _waiting(sock: _socket.socket) -> int:
    """Return how many bytes wait to be read."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), _FIONREAD, bytes(4)))[0])


class _Guard:
    """The process that stops, continues and ends the former epmd, as seen from this process."""

    def __init__(self, pidfd: int, pid: int, ending: Ending) -> None:
        self._pidfd = pidfd
        theirs, self._orders = os.pipe()
        self._answers, answering = os.pipe()
        self._child = os.fork()
        if not self._child:
            _guard(pidfd, pid, theirs, answering, ending)
        os.close(theirs)
        os.close(answering)

    def order(self, word: bytes) -> None:
        """Stop, continue or end the former epmd. Raises TakeOverError if it goes on instead."""
        try:
            os.write(self._orders, word)
            done = os.read(self._answers, _MOST_TOLD)
        except BrokenPipeError:
            done = b""
        # A guard that gives no answer may have been killed after it had ended the former epmd.
        if done == word or (not done and has_ended(self._pidfd)):
            return
        if done:
            raise TakeOverError(os.fsdecode(done))
        # A guard that was killed cannot continue it.
        _send(self._pidfd, signal.SIGCONT)
        raise TakeOverError(f"cannot take over: this took longer than {_MOST_STOPPED:g} s, so it goes on")

    def release(self) -> None:
        """End the guard, which lets the former epmd go on unless that was ended."""
        if self._orders >= 0:
            os.close(self._orders)
            os.close(self._answers)
            self._orders = -1
            reap(self._child)


def _guard(pidfd: int, pid: int, orders: int, answering: int, ending: Ending) -> NoReturn:
    """Carry out the orders. If there are no more, or none comes in time, let the former epmd go on."""
    failure = ""
    try:
        # Ctrl-C must end only the process that takes over, because this one has to continue the other.
        os.setsid()
        close_inherited(keep=(pidfd, orders, answering, *ending.keep))
        poll = select.poll()
        poll.register(orders, select.POLLIN)
        patience: float | None = None
        while poll.poll(patience and patience * 1000) and (word := os.read(orders, 1)):
            if word == _STOP:
                _send(pidfd, signal.SIGSTOP)
                _wait_until_stopped(pid)
            elif word == _GO_ON:
                _send(pidfd, signal.SIGCONT)
            elif failure := ending.end(pidfd):
                break
            os.write(answering, word)
            patience = _MOST_STOPPED if word == _STOP else None
            if word == _END:
                os._exit(0)
    except OSError:
        pass  # whatever it was, the former epmd goes on
    finally:
        try:
            _send(pidfd, signal.SIGCONT)
            ending.undo()
            if failure:
                os.write(answering, os.fsencode(failure)[:_MOST_TOLD])
        finally:
            os._exit(1)


def _wait_until_stopped(pid: int) -> None:
    """Wait until all threads of the process are stopped: a signal takes effect a moment after it was sent."""
    end = time.monotonic() + _MOST_STOPPED
    while not all(state_of(f"{pid}/task/{thread}") in "Tt" for thread in os.listdir(f"/proc/{pid}/task")):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.0002)


def has_ended(pidfd: int) -> bool:
    """Return whether the process of this pidfd has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _send(pidfd: int, number: int) -> None:
    if sys.platform != "linux":
        return  # for type checkers: only Linux comes here
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass  # it has ended by itself


def _get_fd_function() -> Callable[[int, int], int]:
    """Return pidfd_getfd(2), which Python does not have, as a function of a pidfd and a descriptor there.

    Raises ImportError without `_ctypes`. The package ctypes is not in the executables, see `privileges`.
    """
    from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, dlopen, dlsym, get_errno

    class Call(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO

    system_call = Call(dlsym(dlopen(None, 0), "syscall"))  # type: ignore[arg-type]

    def get_fd(pidfd: int, descriptor: int) -> int:
        copy: int = system_call(_PIDFD_GETFD, pidfd, descriptor, 0)
        if copy < 0:
            raise OSError(get_errno(), os.strerror(get_errno()))
        return copy

    return get_fd

"""The requests of a client, each from a `Target` to a typed result.

Unlike `api` this checks no argument, and names are bytes: `epmd -check` asks for whatever it finds.
"""

from __future__ import annotations

from .. import wire
from ..protocol import Alive2Request, Port2Request, ProtocolError
from . import answers
from .exchange import (
    BadAnswerError,
    Call,
    EpmdError,
    Listing,
    NoReplyError,
    Target,
    joined,
    kill_answer,
    stop_answer,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The size of a PORT2_RESP with the longest name and extra that a 16-bit length allows.
MOST_PORT2_RESP = 14 + 2 * 65535
#: What the reply to a look-up, and to a registration, begins with.
_PORT2_RESP = bytes((wire.PORT2_RESP,))
_ALIVE2_X_RESP = bytes((wire.ALIVE2_X_RESP,))


class RefusedError(EpmdError):
    """The epmd refuses: a name is taken, or there are live nodes."""


def names(target: Target) -> list[answers.NamedPort]:
    """Return the registered nodes, newest first."""
    return answers.parse_names(_text(target, wire.NAMES_REQ))


def dump(target: Target) -> answers.Dump:
    """Return the registered nodes and the remembered names."""
    return answers.parse_dump(_text(target, wire.DUMP_REQ))


def look_up(target: Target, name: bytes) -> answers.NodeInfo | None:
    """Return what the node has registered, or None if there is no such node."""
    with Call(target, Port2Request(name).packet()) as call:
        answer = joined(call.pieces(), MOST_PORT2_RESP)
    return read_look_up(answer, target.title)


def register(target: Target, request: Alive2Request) -> tuple[Any, int]:
    """Register a node. Returns the socket of its registration, and the creation. Raises RefusedError."""
    call = Call(target, request.packet())
    try:
        return call.sock, read_registration(call.read(answers.ALIVE2_X_RESP_SIZE), request, target.title)
    except BaseException:
        call.close()
        raise


def stop(target: Target, name: bytes) -> bool:
    """Unregister a node by force. Returns False if there is none."""
    try:
        return stop_answer(target, name) == wire.STOPPED
    except NoReplyError:
        raise no_reply_to_stop(target.title) from None


def kill(target: Target) -> None:
    """Shut down the epmd. Raises RefusedError."""
    must_be_killed(kill_answer(target))


# --- Replies, as every kind of client reads them ---


def read_look_up(answer: bytes, title: str) -> answers.NodeInfo | None:
    """Read the whole reply to a look-up."""
    try:
        return answers.parse_port2_reply(answer)
    except ProtocolError as error:
        if _PORT2_RESP.startswith(answer[:1]):
            raise NoReplyError(f"no whole reply to a look-up from {title}") from error
        raise BadAnswerError(f"invalid reply to a look-up from {title}: {answer[:20]!r}") from error


def read_registration(answer: bytes, request: Alive2Request, title: str) -> int:
    """Return the creation of the node that was registered. Raises RefusedError."""
    try:
        creation = answers.parse_alive2_reply(answer)
    except ProtocolError as error:
        if _ALIVE2_X_RESP.startswith(answer[:1]):
            raise NoReplyError(f"no whole reply to a registration from {title}") from error
        raise BadAnswerError(f"invalid reply to a registration from {title}: {answer!r}") from error
    if creation is None:
        name = request.name.decode("utf-8", "backslashreplace")
        raise RefusedError(f"the epmd rejected the name {name}, which is probably registered already")
    return creation


def must_be_killed(answer: bytes) -> None:
    """Raise RefusedError if this reply to KILL means that the epmd goes on."""
    if answer == wire.KILL_NO:
        raise RefusedError("the epmd did not shut down: nodes are registered")


def no_reply_to_stop(title: str) -> NoReplyError:
    """Return the error for a connection that was closed instead of a reply to STOP."""
    return NoReplyError(
        f"no reply to STOP from {title}: one without -relaxed_command_check closes the connection"
    )


def _text(target: Target, tag: int) -> bytes:
    with Listing(target, tag) as listing:
        return joined(listing.pieces())

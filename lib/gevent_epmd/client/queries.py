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
ALIVE2_X_RESP_SIZE = 6


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
        return call.sock, read_registration(call.read(ALIVE2_X_RESP_SIZE), request, target.title)
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
    """Read the whole reply to a look-up. Returns None if there is no such node."""
    try:
        node = answers.registration_of(answer)
    except ProtocolError as error:
        raise _invalid(answer, wire.PORT2_RESP, f"a look-up from {title}") from error
    if node is None:
        return None
    numbers = (node.port, node.node_type, node.protocol, node.highest, node.lowest)
    return answers.NodeInfo(answers.text_of(node.name), *numbers, node.extra)


def read_registration(answer: bytes, request: Alive2Request, title: str) -> int:
    """Return the creation of the node that was registered. Raises RefusedError."""
    if answer[:1] != bytes((wire.ALIVE2_X_RESP,)) or len(answer) < ALIVE2_X_RESP_SIZE:
        raise _invalid(answer, wire.ALIVE2_X_RESP, f"a registration from {title}")
    if answer[1]:
        name = request.name.decode("utf-8", "backslashreplace")
        raise RefusedError(f"the epmd rejected the name {name}, which is probably registered already")
    return int.from_bytes(answer[2:ALIVE2_X_RESP_SIZE], "big")


def _invalid(answer: bytes, tag: int, request: str) -> BadAnswerError:
    """Return the error for an answer that is not a whole reply with this tag."""
    if bytes((tag,)).startswith(answer[:1]):
        return NoReplyError(f"no whole reply to {request}")
    return BadAnswerError(f"invalid reply to {request}: {answer[:20]!r}")


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

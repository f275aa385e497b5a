"""How nodes and connections live and end.

Where C must fail, `but_not_c` names the row of docs/differences.md.
"""

from __future__ import annotations

import re
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from comparison.settled import settle
from gevent_epmd.protocol import alive2_refusal
from gevent_epmd.server.settings import DEFAULT_PACKET_TIMEOUT
from gevent_epmd.wire import NOEXIST, STOPPED, frame
from support.forms import Folder, InProcess, Source
from support.marks import forms
from support.patience import IN_VAIN, PATIENCE, wait_until, whole_seconds
from support.peer import (
    Peer,
    ask,
    barrier,
    begun,
    long_nodes,
    look_up,
    names,
    node,
    register,
    slow_reader,
    try_to_register,
)
from support.programs import few_descriptors


@forms(once=True)
@pytest.mark.parametrize("end", ["close", "reset", "half close", "a byte", "a request"])
def test_name_ends_with_its_connection(form, end: str) -> None:
    with form() as server, Peer(server.port) as other:
        peer, _ = register(server.port, node("foo"))
        assert try_to_register(other, node("bar"))[1] == 0
        match end:
            case "close":
                peer.close()
            case "reset":
                peer.reset()
            case "half close":
                peer.sock.shutdown(socket.SHUT_WR)
            case "a byte":
                peer.send(b"\0")
            case "a request":
                peer.send(frame(b"zbar"))
        wait_until(lambda: names(server.port) == ["bar at port 4711"], "foo to go")
        if peer.sock.fileno() >= 0:
            assert peer.read_all() == b""
            peer.close()


@forms(once=True)
def test_refused_node_stays_until_it_closes(form) -> None:
    with form() as server, Peer(server.port) as second:
        first, _ = register(server.port, node("foo"))
        assert try_to_register(second, node("foo")) == alive2_refusal(6)
        barrier(server.port)
        assert second.is_open()
        second.close()
        barrier(server.port)
        assert names(server.port) == ["foo at port 4711"], "the refused one took the owner's name away"
        first.close()


@forms(once=True)
def test_creation_counts_up_from_the_clock(form) -> None:
    with form() as server:
        before = int(time.time())
        creations = []
        for _ in range(5):
            peer, creation = register(server.port, node("foo"))
            creations.append(creation)
            peer.close()
            wait_until(lambda: not names(server.port), "foo to go")
        assert before <= creations[0] <= time.time() + 1
        assert creations == list(range(creations[0], creations[0] + 5))


@forms(once=True)
def test_old_creations_go_round_from_1_to_3(form) -> None:
    with form() as server:
        seen = []
        for _ in range(4):
            peer, creation = register(server.port, node("foo", highest=5))
            seen.append(creation)
            peer.close()
            wait_until(lambda: not names(server.port), "foo to go")
        assert sorted(seen[:3]) == [1, 2, 3]
        assert seen[3] == seen[0]


@forms(once=True)
@pytest.mark.parametrize(("options", "kept"), [([], 1000), (["-d"], 5)])
def test_late_names_are_remembered_up_to_a_number(form, options: list[str], kept: int) -> None:
    with form(*options) as server:
        for number in range(kept + 10):
            peer, _ = register(server.port, node(f"n{number}"))
            # The next one must come after this one has gone, and a look-up is faster than NAMES.
            peer.send(b"\0")
            assert peer.read_all() == b""
            peer.close()
        dump = ask(server.port, b"d")[4:].decode().split("\0")[:-1]
        late = [line.removeprefix("old/unused name <").split(">")[0] for line in dump]
        # A new name pushes the oldest out where more than `kept` are there already.
        assert late == [f"n{number}" for number in range(9, kept + 10)]


@forms(once=True)
def test_idle_connection_times_out_and_a_node_does_not(form) -> None:
    seconds = whole_seconds(2)
    with form("-packet_timeout", str(seconds)) as server, ExitStack() as stack:
        start = time.monotonic()
        idle, half, peer = (stack.enter_context(Peer(server.port)) for _ in range(3))
        request = frame(node("foo").packet())
        peer.send(request[:5])
        barrier(server.port)  # so that it waits for the rest, and has a deadline until then
        peer.send(request[5:])
        assert peer.read(6)[:2] == b"v\0"
        later = stack.enter_context(Peer(server.port))
        half.send(b"\0")
        for connection in (idle, half, later):
            assert connection.read_all() == b""
        assert seconds - 0.1 < time.monotonic() - start < DEFAULT_PACKET_TIMEOUT
        barrier(server.port)
        assert peer.is_open()
        assert names(server.port) == ["foo at port 4711"]
        peer.close()


@pytest.mark.slow
@forms(once=True, processes_only=True)
def test_request_that_came_while_the_server_was_stopped(form) -> None:
    """As a container is by `docker pause`: it came in time, and is answered."""
    timeout = whole_seconds(4)  # long enough to stop the server in time
    with form("-packet_timeout", str(timeout)) as server, Peer(server.port) as peer:
        peer.send(b"\0\2z")
        barrier(server.port)
        with server.stopped():
            assert peer.is_open(), "it was not stopped in time"
            peer.send(b"a")
            time.sleep(timeout + 1)  # past the deadline
        assert peer.read_all() == b"w\1"


@forms(once=True, but_not_c="an incomplete request whose bytes keep arriving")
def test_dripped_bytes_do_not_prolong_the_deadline(form) -> None:
    patience = 2 * IN_VAIN if form.is_c else PATIENCE
    start = time.monotonic()
    with form("-packet_timeout", "1") as server, Peer(server.port) as drip:
        drip.send(b"\x0b\xf0z")  # which takes ten minutes at this rate
        while drip.is_open():
            assert time.monotonic() - start < patience, "it is still open"
            time.sleep(0.2)  # the rate of the drip
            try:
                drip.send(b"a")
            except ConnectionError:
                break  # closed with a byte unread, and so by a reset
        assert time.monotonic() - start > 0.9


@pytest.mark.slow
@forms(once=True, but_not_c="a client that does not read the reply")
def test_slow_reader_delays_nobody_and_is_gone_in_time(form) -> None:
    with ExitStack() as stack:
        # Long enough to ask it in time.
        server = stack.enter_context(form("-packet_timeout", str(whole_seconds(6))))
        for request in long_nodes(900):
            stack.enter_context(register(server.port, request)[0])
        slow = stack.enter_context(slow_reader(server.port))
        # C is in its blocking write now, and nobody else is served, not even when the time is over.
        with Peer(server.port) as other:
            other.sock.settimeout(IN_VAIN if form.is_c else PATIENCE)
            other.send(frame(b"zfoo"))
            assert other.read(2) == b"w\1"
        assert not slow.was_reset(), "nobody had to wait until the slow reader was cut off"
        wait_until(slow.was_reset, "the slow reader to be cut off")


@pytest.mark.measured
@forms(once=True, c=False)
def test_reader_that_is_only_slow_gets_everything(form) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(form())
        for request in long_nodes(600):
            stack.enter_context(register(server.port, request)[0])
        slow = stack.enter_context(slow_reader(server.port))
        barrier(server.port)
        assert len(slow.read_all()) == 600 * len("name  at port 4711\n" + "n" * 255)


@forms(once=True)
def test_stop_closes_the_connection_of_the_node(form) -> None:
    with form("-relaxed_command_check") as server:
        peer, creation = register(server.port, node("foo"))
        assert ask(server.port, b"sfoo") == STOPPED
        assert peer.read_all() == b""
        peer.close()
        assert not names(server.port)
        peer, again = register(server.port, node("foo"))
        assert again == creation + 1
        peer.close()


@pytest.mark.measured
@forms(once=True, c=False)
def test_stop_of_a_node_that_has_just_gone(form) -> None:
    with form("-relaxed_command_check") as server:
        for _ in range(50):
            peer, _ = register(server.port, node("foo"))
            peer.reset()
            assert ask(server.port, b"sfoo") in (STOPPED, NOEXIST)
            assert not names(server.port)


@forms(launcher=False)
def test_relaxed_by_the_environment(form) -> None:
    with form(environ={"ERL_EPMD_RELAXED_COMMAND_CHECK": ""}) as server:
        peer, _ = register(server.port, node("foo"))
        assert ask(server.port, b"sfoo") == STOPPED
        peer.close()


@forms(once=True)
def test_same_question_after_each_change(form) -> None:
    """A reply that was given before must not outlive what it says."""

    def asked(times: int = 3) -> list[tuple[int, list[str]]]:
        ports = [int.from_bytes(look_up(server.port, "foo")[2:4], "big") for _ in range(times)]
        return [*{(port, tuple(names(server.port))) for port in ports}]

    with form() as server:
        for port in (4711, 4712):
            assert asked() == [(0, ())]
            foo, _ = register(server.port, node("foo", port))
            assert asked() == [(port, (f"foo at port {port}",))]
            bar, _ = register(server.port, node("bar"))
            assert asked() == [(port, ("bar at port 4711", f"foo at port {port}"))]
            foo.close()
            wait_until(lambda: len(names(server.port)) == 1, "foo to go")
            assert asked() == [(0, ("bar at port 4711",))]
            bar.close()
            wait_until(lambda: not names(server.port), "bar to go")


@forms(InProcess, Source)
def test_silent_connection_counts_a_second_later(form) -> None:
    with form("-packet_timeout", "1") as server:
        start = time.monotonic()
        with Peer(server.port) as silent:
            assert silent.read_all() == b""
        assert time.monotonic() - start > 1.9


@pytest.mark.slow
@forms(once=True, c=False)
def test_name_comes_back_2000_times(form) -> None:
    with form() as server:
        refused, creations = 0, []
        for _ in range(2000):
            with Peer(server.port) as peer:
                reply = try_to_register(peer, node("foo"))
                refused += reply[1]
                creations.append(reply[2:])
        assert refused == 0
        assert len(set(creations)) == 2000


@forms(once=True, but_not_c="a node that registers again at once", processes_only=True)
def test_name_comes_back_at_once(form) -> None:
    """The server is stopped, and so finds the end of the old connection and the new one together.  The
    new one gets the place of one that was there before the old one, and C looks there first."""
    with form() as server, Peer(server.port) as place:
        barrier(server.port)
        old, _ = register(server.port, node("foo"))
        place.close()
        barrier(server.port)
        with server.stopped():
            old.close()
            new = Peer(server.port)
            new.send(frame(node("foo").packet()))
        with new:
            assert new.read(6)[:2] == b"v\0"


@pytest.mark.parametrize("options", [(), ("-d",)], ids=["quiet", "debug"])
@forms(once=True, c=False)
def test_name_comes_back_after_a_reset_or_a_byte(form, options: tuple[str, ...]) -> None:
    with form(*options) as server:
        peer = Peer(server.port)
        assert try_to_register(peer, node("foo"))[1] == 0
        for number in range(300):
            if number % 2:
                peer.send(b"\0")
            else:
                peer.reset()
            following = Peer(server.port)
            assert try_to_register(following, node("foo"))[1] == 0
            peer.close()
            peer = following
        peer.close()
        if options:
            wait_until(lambda: not names(server.port), "foo to go")
            assert server.log().count("unregistering 'foo:") == 301


@forms(InProcess, Source)
def test_kill_is_not_refused_for_a_node_that_has_just_gone(form) -> None:
    with form() as server:
        peer, _ = register(server.port, node("foo"))
        peer.close()
        assert ask(server.port, b"k") == b"OK"
        wait_until(lambda: server.ended() == 0, "the server to end")


@forms(launcher=False)
def test_kill_closes_every_connection(form) -> None:
    with form("-relaxed_command_check") as server, begun(server.port) as idle:
        peer, _ = register(server.port, node("foo"))
        refused = Peer(server.port)
        assert try_to_register(refused, node("foo"))[1] == 1
        assert ask(server.port, b"k") == b"OK"
        for connection in (peer, refused, idle):
            assert connection.read_all() == b""
            connection.close()
        wait_until(lambda: server.ended() == 0, "the server to end")


@forms(c=False, launcher=False)
def test_port_is_free_when_kill_answers(form) -> None:
    for _ in range(20):
        with form() as server:
            assert ask(server.port, b"k") == b"OK"
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", server.port))
                sock.listen()
            wait_until(lambda: server.ended() == 0, "the server to end")
            if form is not InProcess:
                break  # once is enough for a process


@forms(once=True, but_not_c="1,024 descriptors", processes_only=True)
def test_more_nodes_than_the_default_limit(form, monkeypatch) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    monkeypatch.setattr(form, "prepare", few_descriptors(1024, hard))
    with ExitStack() as stack:
        server = stack.enter_context(form())
        nodes = [node(f"node{number}", port=number + 1) for number in range(1100)]
        for request in nodes:
            stack.enter_context(register(server.port, request)[0])
        assert names(server.port) == [f"{n.name.decode()} at port {n.port}" for n in reversed(nodes)]
        for request in nodes:
            assert look_up(server.port, request.name.decode())[:4] == b"w\0" + request.port.to_bytes(2, "big")


@forms(launcher=False, but_not_c="out of descriptors", processes_only=True)
def test_out_of_descriptors_it_serves_on(form, monkeypatch) -> None:
    monkeypatch.setattr(form, "prepare", few_descriptors(256, 256))
    with ExitStack() as stack:
        server = stack.enter_context(form())
        holder = stack.enter_context(register(server.port, node("foo"))[0])
        refused = stack.enter_context(Peer(server.port))
        assert try_to_register(refused, node("foo"))[1] == 1
        for number in range(1000):
            stack.enter_context(begun(server.port))
            if number % 50 == 0:
                assert look_up(server.port, "foo")[:2] == b"w\0"
        later = stack.enter_context(register(server.port, node("bar"))[0])
        assert names(server.port) == ["bar at port 4711", "foo at port 4711"]
        assert holder.is_open()
        assert later.is_open()
        lines = server.log().count("no room for a connection")
        assert 1 <= lines <= 10


@forms(Source, Folder)
@pytest.mark.parametrize(("descriptors", "room"), [(128, 104), (64, 40), (20, 4)])
def test_nodes_leave_room_for_those_who_ask(form, descriptors: int, room: int, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(form, "prepare", few_descriptors(descriptors, descriptors))
    with ExitStack() as stack:
        server = stack.enter_context(form("-pid_file", str(tmp_path / "pid")))
        refused = 0
        for number in range(200):
            peer = stack.enter_context(Peer(server.port))
            refused += try_to_register(peer, node(f"n{number}"))[1]
        assert refused == 200 - room
        assert len(names(server.port)) == room
        assert look_up(server.port, "n0")[:2] == b"w\0"
        assert "no descriptor is left for another node" in server.log()
    assert not list(tmp_path.iterdir()), "its file is removed"


def test_each_further_address_costs_a_node(monkeypatch) -> None:
    """All 16 sockets leave as much room for those who ask."""
    monkeypatch.setattr(Source, "prepare", few_descriptors(128, 128))
    addresses = ",".join(f"127.0.0.{number}" for number in range(2, 16))
    with ExitStack() as stack:
        server = stack.enter_context(Source("-address", addresses))
        for number in range(128 - 24 - 14):
            stack.enter_context(register(server.port, node(f"n{number}"))[0])
        last = stack.enter_context(Peer(server.port))
        assert try_to_register(last, node("one more"))[1] == 1
        assert look_up(server.port, "n0")[:2] == b"w\0"


@pytest.mark.measured
@pytest.mark.slow
@forms(once=True)
@pytest.mark.parametrize("option", ["-delay_write", "-delay_accept"])
def test_busy_server_is_slow(form, option: str) -> None:
    with form() as quick, form(option, "1") as slow:
        took = seconds_of_a_look_up(slow.port)
        assert took > 0.9
        assert min(seconds_of_a_look_up(quick.port) for _ in range(5)) < took


def seconds_of_a_look_up(port: int) -> float:
    start = time.monotonic()
    assert look_up(port, "foo") == b"w\1"
    return time.monotonic() - start


@pytest.mark.slow
@forms(once=True, c=False)
def test_busy_server_is_slow_for_each_alone(form) -> None:
    count = 200
    with form("-delay_write", "1") as server, ExitStack() as stack:
        start = time.monotonic()
        peers = [stack.enter_context(Peer(server.port)) for _ in range(count)]
        for peer in peers:
            peer.send(frame(b"zfoo"))
        assert [peer.read_all() for peer in peers] == [b"w\1"] * count
        assert time.monotonic() - start < count, "they were delayed one after the other"


@pytest.mark.slow
@forms(once=True, c=False)
def test_write_delay_is_longer_than_the_packet_timeout(form) -> None:
    with form("-delay_write", "2", "-packet_timeout", "1") as server:
        assert look_up(server.port, "foo") == b"w\1"


@pytest.mark.measured
@forms(InProcess, Source)
@pytest.mark.parametrize("what", [b"", b"\0", b"\0\x04z", frame(b"n"), frame(node("foo").packet())])
def test_resets_leave_nothing_behind(form, what: bytes) -> None:
    with form("-packet_timeout", "60") as server:
        for _ in range(60):
            peer = Peer(server.port)
            peer.send(what)
            peer.reset()
        wait_until(lambda: not names(server.port), "ghosts to go")
        peer, _ = register(server.port, node("foo"))
        # Descriptors are given out lowest first: a leak would show in the number.
        fd = int(ask(server.port, b"d").split(b"fd = ")[1].split(b"\n")[0])
        if form is not InProcess:
            assert fd < 20
        peer.close()


@forms(Source, Folder)
def test_it_does_nothing_where_there_is_nothing_to_do(form) -> None:
    """Each time that it is woken is counted; C wakes every 5 s."""
    with form() as server, register(server.port, node("foo"))[0]:
        barrier(server.port)
        settle(server.pid)
        before = times_woken(server.pid)
        time.sleep(1)
        assert times_woken(server.pid) == before
        names(server.port)
        # Counted when it goes back to sleep, which is after its answer.
        wait_until(lambda: times_woken(server.pid) > before, "it to be counted that it was woken")


def times_woken(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)[1])

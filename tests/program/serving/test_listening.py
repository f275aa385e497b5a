"""Where an epmd listens, and from where it may be told what."""

from __future__ import annotations

import socket

import pytest

from gevent_epmd.server import listeners
from gevent_epmd.server.listeners import ListenError, PortInUseError, open_listeners, places
from gevent_epmd.server.networks import is_local
from support.forms import InProcess, Source
from support.marks import forms
from support.patience import PATIENCE
from support.ports import answers, reserved_port
from support.programs import run
from support.scenes import (
    an_asked_for_ipv6_address_is_missed,
    it_serves_a_wildcard_without_ipv6,
    it_serves_without_ipv6,
    missing_ipv6_is_worth_no_line,
    run_scene,
    strangers_may_only_look_up,
)


def hosts(*addresses: str) -> list[str]:
    return [place.host for place in places(addresses)]


@pytest.mark.measured
@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([], ["0.0.0.0", "::"]),
        (["127.0.0.1"], ["127.0.0.1", "::1"]),
        (["::1"], ["::1", "127.0.0.1"]),
        (["127.0.0.1", "127.0.0.1", "::1", "0:0:0:0:0:0:0:1"], ["127.0.0.1", "::1"]),
        (["10.0.0.1"], ["10.0.0.1", "127.0.0.1", "::1"]),
        (["10.0.0.1", "::1"], ["10.0.0.1", "::1", "127.0.0.1"]),
        (["0.0.0.0"], ["0.0.0.0", "::1"]),
        (["::"], ["::", "127.0.0.1"]),
        (["0.0.0.0", "10.0.0.1", "::", "fd00::1", "127.0.0.2"], ["0.0.0.0", "::"]),
    ],
    ids=str,
)
def test_places(addresses: list[str], expected: list[str]) -> None:
    assert hosts(*addresses) == expected


def test_what_nobody_has_asked_for_may_be_missing() -> None:
    """Such as IPv6, and the loopback addresses that come by themselves."""
    assert [(place.host, place.asked) for place in places([])] == [("0.0.0.0", True), ("::", False)]
    assert [(place.host, place.asked) for place in places(["10.0.0.1", "::1"])] == [
        ("10.0.0.1", True),
        ("::1", True),
        ("127.0.0.1", False),
    ]


def test_places_of_loopback_alone() -> None:
    assert [(place.host, place.asked) for place in places(None)] == [
        ("127.0.0.1", False),
        ("127.0.1.1", False),
        ("::1", False),
    ]


@pytest.mark.parametrize(
    "address",
    ["nonsense", "localhost", "1.2.3", "1.2.3.4.5", "::g", "fe80::1%lo", "1.2.3.4:5", "a\0b", "1.2.3.4\n"],
)
def test_address_that_is_none(address: str) -> None:
    with pytest.raises(ListenError, match="cannot parse IP address"):
        places([address])


@pytest.mark.measured
@pytest.mark.parametrize(("asked", "possible"), [(14, True), (15, False), (16, False)])
def test_most_addresses(asked: int, *, possible: bool) -> None:
    addresses = [f"127.0.1.{number}" for number in range(asked)]
    if possible:
        assert len(hosts(*addresses)) == listeners.MAX_LISTEN_SOCKETS
    else:
        with pytest.raises(ListenError, match="more than 14"):
            places(addresses)


def test_port_in_use_leaves_nothing_open() -> None:
    with reserved_port() as port:
        first = open_listeners(["127.0.0.1"], port)
        with pytest.raises(PortInUseError, match=f"port {port}"):
            open_listeners(["127.0.0.2"], port)
        with socket.socket() as sock:
            sock.bind(("127.0.0.2", port))  # without SO_REUSEADDR: nobody has it
        listeners.close_all(first)


@pytest.mark.measured
def test_other_addresses_at_the_same_port() -> None:
    """As a take-over changes them: what stays is not bound again, and where one cannot be had, all stay."""
    first = open_listeners(["127.0.0.2"], 0)
    port = first[0].getsockname()[1]
    serving, left = listeners.change_addresses(first, ["127.0.0.3"])
    try:
        assert {sock.getsockname()[0] for sock in serving} == {"127.0.0.1", "127.0.0.3", "::1"}
        assert {sock.getsockname()[1] for sock in serving} == {port}
        assert [sock.getsockname()[0] for sock in left] == ["127.0.0.2"]
        listeners.close_all(left)
        kept, left = listeners.change_addresses(serving, ["127.0.0.3"])
        assert (set(kept), left) == (set(serving), [])
        with socket.socket() as other:
            other.bind(("127.0.0.4", port))
            other.listen()
            with pytest.raises(ListenError, match=r"^failed to bind on ipaddr 127\.0\.0\.4: Address already"):
                listeners.change_addresses(serving, ["127.0.0.4"])
        with pytest.raises(ListenError):
            listeners.change_addresses(serving, ["203.0.113.7"])
        socket.create_connection(("127.0.0.3", port), timeout=PATIENCE).close()
    finally:
        listeners.close_all(serving)


@pytest.mark.measured
def test_address_that_the_host_does_not_have_is_a_failure() -> None:
    with pytest.raises(ListenError, match=r"^failed to bind on ipaddr 203\.0\.113\.7: "):
        open_listeners(["203.0.113.7"], 0)


def test_port_0_is_one_port_for_all() -> None:
    opened = open_listeners([], 0)
    assert len({sock.getsockname()[1] for sock in opened}) == 1
    listeners.close_all(opened)


@forms(once=True)
def test_everywhere_without_an_address(form) -> None:
    with form() as server:
        assert answers(server.port, "127.0.0.1")
        assert answers(server.port, "127.9.9.9")
        assert answers(server.port, "::1")


@forms(once=True)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_only_at_the_addresses_and_on_loopback(form, by: str) -> None:
    addresses = "127.0.0.2, 127.0.0.3"
    how = {"environ": {"ERL_EPMD_ADDRESS": addresses}} if by == "environment" else {}
    options = ["-address", addresses] if by == "option" else []
    with form(*options, **how) as server:
        assert [answers(server.port, f"127.0.0.{n}") for n in (1, 2, 3, 4)] == [True, True, True, False]
        assert answers(server.port, "::1")


@forms(once=True)
def test_option_wins_over_the_environment(form) -> None:
    with form("-address", "127.0.0.2", environ={"ERL_EPMD_ADDRESS": "127.0.0.3"}) as server:
        assert answers(server.port, "127.0.0.2")
        assert not answers(server.port, "127.0.0.3")


@forms(once=True)
@pytest.mark.parametrize("empty", ["", " ,, "])
def test_list_of_nothing_is_no_list(form, empty: str) -> None:
    with form("-address", empty) as server:
        assert answers(server.port, "127.0.0.9")


@forms(once=True, but_not_c="a wildcard address")
@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_wildcard_covers_the_loopback(form, wildcard: str) -> None:
    with form("-address", wildcard) as server:
        assert answers(server.port, "127.0.0.1")
        assert answers(server.port, "::1")
        assert answers(server.port, "127.0.0.9") == (wildcard == "0.0.0.0")


@forms(once=True, but_not_c="a loopback address that is given twice")
def test_loopback_that_is_named_twice(form) -> None:
    with form("-address", "127.0.0.1,127.0.0.1,::1,127.0.0.1") as server:
        assert answers(server.port)


@forms(once=True, but_not_c="an address that is given twice")
def test_address_that_is_named_twice(form) -> None:
    with form("-address", "127.0.0.5,127.0.0.6,127.0.0.5") as server:
        assert answers(server.port, "127.0.0.6")


@forms(once=True, but_not_c="14 addresses", processes_only=True)
def test_14_addresses(form) -> None:
    with form("-address", ",".join(f"127.0.0.{host}" for host in range(2, 16))) as server:
        assert answers(server.port)
        assert answers(server.port, "127.0.0.15")


@pytest.mark.measured
@forms(launcher=False, but_not_c="the maximum number of addresses", processes_only=True)
def test_more_addresses_than_there_may_be(form) -> None:
    with reserved_port() as port:
        addresses = ",".join(f"127.0.0.{host}" for host in range(2, 17))
        done = run([*form.command, "-port", str(port), "-address", addresses])
        assert done.returncode == 1
        assert b"cannot listen on more than 14 IP addresses" in done.stderr


@forms(
    once=True,
    but_not_c="an address that the host does not have, while an epmd is running",
    processes_only=True,
)
def test_address_that_is_not_there_beside_an_epmd(form) -> None:
    with InProcess() as server:
        done = run([*form.command, "-port", str(server.port), "-address", "203.0.113.7"])
        assert done.returncode == 1
        assert b"failed to bind on ipaddr 203.0.113.7" in done.stderr


@forms(
    once=True,
    but_not_c="an address that is in use, while an epmd is running on all addresses",
    processes_only=True,
)
def test_address_that_is_taken_beside_an_epmd(form) -> None:
    with InProcess() as server:
        done = run([*form.command, "-port", str(server.port), "-d", "-address", "127.0.0.5"])
        assert done.returncode == 0
        assert f"a epmd running at port {server.port} on ipaddr 127.0.0.5".encode() in done.stderr


def test_name_of_a_host_is_no_address() -> None:
    done = run([*Source.command, "-address", "localhost"])
    assert done.returncode == 1
    assert b'cannot parse IP address "localhost"' in done.stderr


@forms(once=True)
def test_strangers_may_only_look_up(form) -> None:
    run_scene(strangers_may_only_look_up, form)


@forms(launcher=False, processes_only=True)
def test_it_serves_without_ipv6(form) -> None:
    run_scene(it_serves_without_ipv6, form, "without IPv6")


@forms(once=True, but_not_c="a wildcard address")
def test_it_serves_a_wildcard_without_ipv6(form) -> None:
    run_scene(it_serves_a_wildcard_without_ipv6, form, "without IPv6")


@forms(once=True, but_not_c="a loopback address that the host does not have")
def test_missing_ipv6_is_worth_no_line(form) -> None:
    run_scene(missing_ipv6_is_worth_no_line, form, "without IPv6")


@forms(once=True, but_not_c="`-address ::1` on a host without IPv6", processes_only=True)
def test_an_asked_for_ipv6_address_is_missed(form) -> None:
    run_scene(an_asked_for_ipv6_address_is_missed, form, "without IPv6")


@pytest.mark.parametrize(
    ("peer", "own", "local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.255.0.9", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.2", "10.0.0.1", False),
        ("128.0.0.1", "127.0.0.1", False),
        ("::1", "::1", True),
        ("::1", "fd00::1", True),
        ("fd00::1", "fd00::1", True),
        ("fd00::2", "fd00::1", False),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:127.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.2", "::ffff:10.0.0.1", False),
        ("::127.0.0.1", "::1", False),
        ("::ffff:127:0:1", "::1", False),
        ("127::1", "::1", False),
    ],
)
def test_is_local(peer: str, own: str, *, local: bool) -> None:
    assert is_local(peer, lambda: (own, 4369)) == local

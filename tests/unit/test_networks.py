"""Networks that may ask: how they are read, and who is in them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gevent_epmd import PortMapper
from gevent_epmd.program.options import ValueProblem, read_options
from gevent_epmd.server.networks import is_in, peer_name, plain_host, read_network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:a01:203/128", "10.1.2.3/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
        ("::/0", "::/0"),
        ("::/96", "::/96"),
        ("fd00::/8", "fd00::/8"),
        ("::ffff:1:2:3", "::ffff:1:2:3/128"),
    ],
)
def test_network(text: str, network: str) -> None:
    expected = ip_network(network)
    assert read_network(text) == read_network(ip_network(text)) == expected
    for name, nobody in (("allow", None), ("allow_register", ()), ("not_local", ())):
        assert getattr(read_options([f"-{name}", text], {}).settings, name) == (expected,)
        assert getattr(PortMapper(**{name: [text]})._settings, name) == (expected,)
        assert getattr(PortMapper()._settings, name) == nobody


@pytest.mark.measured
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
        ("fd00::1/8", "fd00::/8"),
    ],
)
def test_network_with_host_bits(text: str, meant: str) -> None:
    with pytest.raises(ValueProblem, match=f"^-allow: {text} has host bits set; the network is {meant}$"):
        read_options(["-allow", text], {})
    with pytest.raises(ValueError, match="has host bits set"):
        PortMapper(allow=[text])
    with pytest.raises(ValueError, match="has host bits set"):
        PortMapper(allow_register=[text])


@pytest.mark.measured
@pytest.mark.parametrize(
    ("host", "networks", "inside"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8", "fd00::/8"], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["::ffff:10.0.0.0/104"], True),
        ("10.1.2.3", ["::ffff:10.0.0.0/104"], True),
        ("10.1.2.3", ["::/0"], False),
        ("::ffff:10.1.2.3", ["::/0"], False),
        ("::ffff:10.1.2.3", ["::fffe:0:0/95"], False),
        ("fd00::1", ["::/0"], True),
        ("fd00::1", ["0.0.0.0/0", "::ffff:0:0/96"], False),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("::ffff:1:2:3", ["::/0"], True),
        ("::ffff:1:2:3", ["0.0.0.0/0"], False),
    ],
)
def test_is_in(host: str, networks: list[str], *, inside: bool) -> None:
    assert is_in(host, [read_network(network) for network in networks]) == inside


def test_plain_host() -> None:
    hosts = ["10.0.0.1", "::ffff:10.0.0.1", "::1", "fe80::1%eth0", "::ffff:1:2:3"]
    assert [plain_host(host) for host in hosts] == ["10.0.0.1", "10.0.0.1", *hosts[2:]]


def test_peer_name() -> None:
    """As accept reports peers, of IPv4, of a dual-stack socket, and of IPv6."""
    peers = [("10.0.0.1", 7), ("::ffff:10.0.0.1", 7, 0, 0), ("::1", 7, 0, 0)]
    assert [peer_name(peer) for peer in peers] == ["10.0.0.1:7", "10.0.0.1:7", "[::1]:7"]

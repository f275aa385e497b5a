"""The faults that scripts/plant plants, a table for each part of the program.

Each is something that somebody could write: an off by one, a branch or a clean-up that is missing, a wrong
order or number.  Where the code changes, the texts have to follow it; tests/unit/test_plant.py says which.
Choose tests that take seconds, need no executable, and fail at once rather than wait.
"""

from __future__ import annotations

from plant.fault import Fault

#: What breaks, the text, the text with the fault, and the tests that must catch it.
_Row = tuple[str, str, str, str]

_LIB = "lib/gevent_epmd"

_PROTOCOL = "unit/test_protocol.py"
_WIRE = "program/serving/test_wire.py: InProcess"
_LIFE = "program/serving/test_life.py: InProcess"
_REGISTRY = "unit/test_registry.py"
_TIMERS = "unit/test_timers.py"
_MAPPER = "unit/test_mapper.py"
_LISTENING = "program/serving/test_listening.py"
_CLIENT = "program/library/test_client.py"
_LINE = "program/command/test_command_line.py: source"
_DAEMON = "program/process/test_daemon.py: source"
_OWN = "program/command/test_own_options.py: source"
_INSTALL = "packaging/test_install.py"

_TABLES: dict[str, list[_Row]] = {
    f"{_LIB}/protocol.py": [
        ("the longest packet is refused", "MAX_PACKET = 3057", "MAX_PACKET = 3056", f"{_PROTOCOL}: table"),
        (
            "a packet of no bytes is read",
            "if not 1 <= size <= MAX_PACKET:",
            "if not 0 <= size <= MAX_PACKET:",
            f"{_PROTOCOL}: any_bytes",
        ),
        (
            "the longest name is not found",
            "MAX_NAME_CHARACTERS = 255",
            "MAX_NAME_CHARACTERS = 254",
            f"{_PROTOCOL}: table",
        ),
        (
            "the longest extra data is longer than C's",
            "MAX_SYMBOL_BYTES = 1020",
            "MAX_SYMBOL_BYTES = 1024",
            f"{_WIRE} and extra",
        ),
        (
            "a registration of no name is answered",
            "_ALIVE2_SMALLEST = 14",
            "_ALIVE2_SMALLEST = 13",
            f"{_PROTOCOL}: table",
        ),
        (
            "a name that leaves no room for Elen is an error inside",
            "if name_end + _U16.size > len(packet):",
            "if name_end > len(packet):",
            f"{_PROTOCOL}: table",
        ),
        (
            "extra data that runs past the packet is cut",
            "if extra_end > len(packet):",
            "if extra_start > len(packet):",
            f"{_PROTOCOL}: table",
        ),
        (
            "a NUL in a registered name",
            '_no_nul(name, "ALIVE2_REQ")',
            "pass",
            f"{_PROTOCOL}: table",
        ),
        (
            "all NULs after a looked-up name are dropped",
            "name = name[:-1]",
            'name = name.rstrip(b"\\0")',
            f"{_PROTOCOL}: table",
        ),
        (
            "STOP of no name is read",
            "if len(packet) == 1:",
            "if not packet:",
            f"{_PROTOCOL}: table",
        ),
        (
            "the name of STOP goes on after a NUL",
            'packet[1:].split(b"\\0", 1)[0]',
            'packet[1:].rstrip(b"\\0")',
            f"{_WIRE} and STOP",
        ),
        ("an old creation may be 0", "creation % 3 + 1", "creation % 3", f"{_PROTOCOL}: both_forms"),
        (
            "a node of version 5 gets 32 bits",
            "FIRST_VERSION_WITH_32_BITS = 6",
            "FIRST_VERSION_WITH_32_BITS = 5",
            f"{_PROTOCOL}: both_forms or refusals",
        ),
        (
            "the creation of a refused node is not C's",
            "REFUSED_CREATION = 99",
            "REFUSED_CREATION = 0",
            f"{_PROTOCOL}: refusals",
        ),
        (
            "the reply to a look-up has the tag of the request",
            "return bytes((PORT2_RESP, 0)) + node.packet()[1:]",
            "return bytes((PORT2_RESP, 0)) + node.packet()",
            f"{_CLIENT}: names_and_look_ups and InProcess",
        ),
        ("the port of a listing is turned round", 'Struct("!I")', 'Struct("<I")', f"{_WIRE} and NAMES"),
        (
            "a late name in DUMP ends without its blank",
            "port = %d, fd = %d \\n\\0",
            "port = %d, fd = %d\\n\\0",
            f"{_WIRE} and DUMP",
        ),
        (
            "bytes after a packet that came later are read",
            "return (self._want or MAX_PACKET + HEADER) - len(self._got)",
            "return MAX_PACKET + HEADER - len(self._got)",
            f"{_PROTOCOL}: never_wants",
        ),
        (
            "a complaint counts the header",
            "len(got) - HEADER, size)",
            "len(got), size)",
            f"{_PROTOCOL}: complaint",
        ),
    ],
    f"{_LIB}/wire.py": [
        (
            "a request that is too long is an error inside",
            "except OverflowError:",
            "except ValueError:",
            "unit/test_protocol.py: too_long_for_a_frame",
        ),
    ],
    f"{_LIB}/conventions.py": [
        (
            "0 is no number",
            'value.lstrip("0") or value[-1:]',
            'value.lstrip("0")',
            "unit/test_conventions.py",
        ),
        (
            "digits of other scripts are a number",
            "digits.isascii() and digits.isdigit()",
            "digits.isdigit()",
            "unit/test_conventions.py",
        ),
        (
            "thousands of digits are an error inside",
            "len(digits) <= MOST_DIGITS and ",
            "",
            "unit/test_conventions.py",
        ),
        (
            "the least number is refused",
            "least <= int(digits) <= most",
            "least < int(digits) <= most",
            "unit/test_conventions.py",
        ),
        (
            "a variable that is set to nothing is not an error",
            'environ.get("ERL_EPMD_PORT", str(DEFAULT_PORT))',
            'environ.get("ERL_EPMD_PORT") or str(DEFAULT_PORT)',
            f"{_CLIENT}: port_of_the_environment",
        ),
        (
            "-loopback leaves Debian's own name out",
            '("127.0.0.1", "127.0.1.1", "::1")',
            '("127.0.0.1", "::1")',
            f"{_LISTENING}: places_of_loopback_alone",
        ),
        (
            "fewer addresses than C listens on",
            "MAX_LISTEN_SOCKETS = 16",
            "MAX_LISTEN_SOCKETS = 15",
            f"{_LISTENING}: test_most_addresses",
        ),
        (
            "the end of a line gets into the log as it is",
            "if c.isprintable() else repr(c)",
            'if c.isprintable() or c == "\\n" else repr(c)',
            "program/serving/test_log.py: test_printable",
        ),
    ],
    f"{_LIB}/server/registry.py": [
        (
            "two take-overs in a row forget the greatest creation",
            "        self._note_greatest(greatest)\n",
            "",
            f"{_REGISTRY}: greatest",
        ),
        (
            "a reply outlives what it says",
            "        self.replies.clear()\n",
            "",
            f"{_REGISTRY}: kept_until",
        ),
        (
            "who has lost a name takes it from its next owner",
            "if self._live.get(node.name) is not node:",
            "if node.name not in self._live:",
            f"{_REGISTRY}: twice",
        ),
        (
            "a creation comes again",
            "former.count + 1 if former",
            "former.count if former",
            f"{_REGISTRY}: jumps",
        ),
        (
            "a forgotten name gets a creation again",
            "self._floor = max(self._floor, oldest.count + 1)",
            "self._floor = max(self._floor, oldest.count)",
            f"{_REGISTRY}: jumps",
        ),
        (
            "a creation comes again after a crash in the same second",
            "int(clock()) + 1)",
            "int(clock()))",
            f"{_REGISTRY}: same_second",
        ),
        (
            "a clock that is set back repeats creations",
            "return max(int(self._clock()), self._floor)",
            "return max(int(self._clock()), _FIRST_CREATION)",
            f"{_REGISTRY}: jumps",
        ),
        (
            "a creation of 32 bits may be 0",
            "return _FIRST_CREATION + (self.count - _FIRST_CREATION) % _CREATIONS",
            "return self.count % 2**32",
            f"{_REGISTRY}: goes_round",
        ),
        (
            "one name less is remembered",
            "if len(self._remembered) > self._most_remembered",
            "if len(self._remembered) >= self._most_remembered",
            f"{_LIFE} and late_names and not 1000",
        ),
        (
            "NAMES has the oldest node first",
            "return reversed(self._live.values())",
            "return iter(self._live.values())",
            f"{_WIRE} and NAMES",
        ),
        (
            "NAMES does not change",
            "        self._names_reply = None\n        self.replies",
            "        self.replies",
            f"{_MAPPER}: names_reply",
        ),
        (
            "a node too many",
            "len(self._live) >= self.limit",
            "len(self._live) > self.limit",
            f"{_REGISTRY}: test_limit",
        ),
        (
            "any name is registered",
            "if reason := request.refusal():",
            "if reason := None:",
            f"{_WIRE} and letters",
        ),
        (
            "a former node keeps its connection in memory",
            "        node.holder = None\n",
            "",
            f"{_REGISTRY}: lets_go",
        ),
        (
            "as many names are remembered with -d as without",
            "REMEMBERED_WHEN_DEBUGGING = 5",
            "REMEMBERED_WHEN_DEBUGGING = 1000",
            f"{_LIFE} and late_names and not 1000",
        ),
    ],
    f"{_LIB}/server/connection.py": [
        (
            "requests that a kept reply answers are not counted",
            "mapper.looked_up += 1",
            "pass",
            "program/process/test_metrics.py: has_happened and Source",
        ),
        (
            "the beginning of a reply is sent twice",
            "sent = self._sent or self._send_some(data)",
            "sent = self._send_some(data)",
            "unit/test_acceptor.py: rest_of_a_reply",
        ),
        (
            "other hosts may DUMP",
            "frozenset((wire.PORT2_REQ, wire.NAMES_REQ))",
            "frozenset((wire.PORT2_REQ, wire.NAMES_REQ, wire.DUMP_REQ))",
            f"{_LISTENING}: strangers and InProcess",
        ),
        (
            "who may register may also KILL",
            "if tag == wire.ALIVE2_REQ and not allowed:",
            "if not allowed:",
            "program/command/test_own_options.py: allow_register and InProcess",
        ),
        (
            "everybody may STOP nodes",
            "if tag == wire.STOP_REQ and not self._mapper.settings.relaxed:",
            "if tag == wire.STOP_REQ and not self.is_local():",
            f"{_WIRE} and STOP",
        ),
        (
            "-allow bars this host",
            "if is_in(self._peer[0], allowed) or self.is_local():",
            "if is_in(self._peer[0], allowed):",
            "program/library/test_embedding.py: options_are_those and not Threaded",
        ),
        (
            "a node that is there loses its name",
            "return error.errno not in _TRANSIENT",
            "return error.errno != errno.EINTR",
            f"{_LIFE} and refused_node",
        ),
        (
            "the byte that ends a registration is taken away",
            "_socket.MSG_PEEK | _NOW",
            "_NOW",
            "unit/test_connection.py: takes_nothing_away",
        ),
        (
            "a node is cut off by its packet timeout",
            "return packet\n        finally:\n            deadlines.discard(self)",
            "return packet\n        finally:\n            pass",
            f"{_LIFE} and a_node_does_not",
        ),
        (
            "connections that have ended make room",
            "            self._mapper.unregistered.discard(self)\n            self._stop_reading()",
            "            self._stop_reading()",
            "unit/test_connection.py: idle_greenlets",
        ),
        (
            "a node makes room for others",
            "self._is_node = True\n        self._mapper.unregistered.discard(self)",
            "self._is_node = True",
            "program/serving/test_unregistered.py: which_connection",
        ),
        (
            "a refused node that was there first makes room first",
            "self._mapper.unregistered.renew(self)\n        if request is not None",
            "self._mapper.unregistered.add(self)\n        if request is not None",
            "program/serving/test_unregistered.py: which_connection",
        ),
        (
            "a node of a host that has lost its power stays for ever",
            "if not self._mapper.settings.allow_register or self.is_local():",
            "if not self._mapper.settings.allow_register or not self.is_local():",
            "program/command/test_own_options.py: allow_register and InProcess",
        ),
        (
            "so does one that was taken over",
            "            self._enable_keepalive()\n",
            "            if reply is not None:\n                self._enable_keepalive()\n",
            "unit/test_inherit.py: kept_alive",
        ),
        (
            "STOP always says STOPPED",
            "reply = wire.STOPPED if stopped else wire.NOEXIST",
            "reply = wire.STOPPED",
            f"{_WIRE} and STOP",
        ),
        (
            "a slow reader does not get everything",
            "return self.sock.send(data, _SEND_NOW)",
            "return self.sock.send(data, _SEND_NOW) and len(data)",
            f"{_LIFE} and only_slow",
        ),
        (
            "the close of a connection is not logged",
            "            events.closing(self)\n",
            "",
            "program/serving/test_log.py: opens_and_closes_once and InProcess",
        ),
        (
            "a greenlet is left for each connection",
            "if len(mapper.idle_greenlets) >= _MOST_IDLE:",
            "if len(mapper.idle_greenlets) < 0:",
            "unit/test_connection.py: idle_greenlets",
        ),
    ],
    f"{_LIB}/server/acceptor.py": [
        (
            "a connection is accepted before its request",
            "\n_DEFER = 1\n",
            "\n_DEFER = 0\n",
            "unit/test_acceptor.py: accepted_with",
        ),
        (
            "out of descriptors is an error like others",
            "_NO_ROOM = (errno.EMFILE, ",
            "_NO_ROOM = (",
            "unit/test_acceptor.py: tries_again",
        ),
        (
            "a timer is left when it closes",
            "self._stop_waiting()\n        super().close()",
            "super().close()",
            "unit/test_acceptor.py: can_be_closed",
        ),
        (
            "systemd's sockets are shut down",
            "if not (in_child or self.closed or self._shared):",
            "if not (in_child or self.closed):",
            "unit/test_acceptor.py: forked_process",
        ),
        (
            "the host program's default timeout makes it wait",
            "sock.settimeout(None)",
            "sock.settimeout(sock.gettimeout())",
            "unit/test_acceptor.py: default_time_out",
        ),
        (
            "a forked child keeps the port",
            "                self.socket.shutdown(_socket.SHUT_RDWR)\n",
            "                self.socket.fileno()\n",
            "unit/test_acceptor.py: forked_process",
        ),
    ],
    f"{_LIB}/server/mapper.py": [
        (
            "who may register may not look up",
            "else settings.allow + settings.allow_register",
            "else settings.allow",
            "program/command/test_own_options.py: allow_register and InProcess",
        ),
        (
            "an end that is asked for ends the nodes in the descriptor store",
            "        self.close_listeners()\n        self.finished.set()\n",
            "        [each.hang_up() for each in self._connections()]\n        self.finished.set()\n",
            "program/process/test_store.py: asked_for",
        ),
        (
            "a connection too few",
            "if len(self.unregistered) > MOST_UNREGISTERED:",
            "if len(self.unregistered) >= MOST_UNREGISTERED:",
            f"{_MAPPER}: too_many",
        ),
        (
            "STOP leaves the connection of the node open",
            "        if holder is not None:\n            holder.hang_up()\n",
            "",
            "program/library/test_plugin.py: killed_node",
        ),
        (
            "a node that restarts quickly is refused",
            "        if owner := self.registry.find(request.name):\n            self._unreg_if_gone(owner)\n",
            "",
            f"{_MAPPER}: has_gone",
        ),
        (
            "KILL is refused for a node that has just gone",
            "            for node in list(self.registry.live()):\n",
            "            for node in []:\n",
            f"{_MAPPER}: may_be_killed",
        ),
        (
            "KILL is refused though checks are relaxed",
            "return self.settings.relaxed or len(self.registry) == 0",
            "return len(self.registry) == 0",
            f"{_WIRE} and KILL",
        ),
        (
            "nodes leave fewer descriptors for those who ask",
            "_SPARE_DESCRIPTORS = 24\n_LEAST",
            "_SPARE_DESCRIPTORS = 20\n_LEAST",
            "program/serving/test_life.py: nodes_leave_room and 128 and Source",
        ),
        (
            "the end leaves greenlets behind",
            '            connection.abort("the mapper ends")\n',
            "",
            "program/library/test_embedding.py: left_in_the_hub and not Threaded",
        ),
        (
            "a forked child keeps the connections of its parent's mapper",
            "            connection.hang_up()\n            connection.abort",
            "            connection.abort",
            "unit/test_connection.py: forked_process",
        ),
        (
            "a node does not stop idle exit",
            "self.events.registered(node, self.registry)\n        self._look_whether_idle()",
            "self.events.registered(node, self.registry)",
            f"{_MAPPER}: idle_exit",
        ),
        (
            "idle exit does not come after the last node",
            "            self.events.unregistered(node, self.registry)\n        self._look_whether_idle()",
            "            self.events.unregistered(node, self.registry)",
            f"{_MAPPER}: idle_exit",
        ),
    ],
    f"{_LIB}/server/timers.py": [
        (
            "bytes that drip in prolong the deadline",
            "if connection not in self._table:",
            "if True:",
            f"{_TIMERS}: second_call",
        ),
        (
            "deadlines come after the end",
            'any more."""\n        if self._timer is not None:',
            'any more."""\n        if self._timer is not None and not self._table:',
            f"{_TIMERS}: no_deadline_after",
        ),
        (
            "only the first deadline is heeded",
            "                self._start_timer(deadline - now)\n                break",
            "                break",
            f"{_TIMERS}: each_in_its_turn",
        ),
        (
            "who asked in time is cut off after a suspension",
            "if now - deadline > _STOPPED and not self._was_stopped:",
            "if now - deadline > 3600 and not self._was_stopped:",
            f"{_TIMERS}: suspended",
        ),
        (
            "the second suspension is not forgiven",
            "abort(TIMED_OUT)\n        self._was_stopped = False",
            "abort(TIMED_OUT)",
            f"{_TIMERS}: suspended",
        ),
        (
            "the newest connection makes room",
            "return next(iter(self), None)",
            "return next(reversed(self), None)",
            f"{_TIMERS}: order_of",
        ),
        (
            "a connection that asked keeps its old place",
            "        self.move_to_end(connection)\n",
            "",
            f"{_TIMERS}: order_of",
        ),
        (
            "who waits on gets a new place",
            "self.setdefault(connection)",
            "self.renew(connection)",
            f"{_TIMERS}: order_of",
        ),
        (
            "idle exit comes though nodes are there",
            "        if nodes:\n            self.stop()\n        elif",
            "        if",
            f"{_TIMERS}: idle_exit",
        ),
    ],
    f"{_LIB}/server/listeners.py": [
        (
            "a wildcard cannot replace an address that it covers",
            "_share(sockets, on=True)",
            "pass",
            "program/command/test_takeover.py: other_addresses and C and loopback",
        ),
        (
            "an IPv4 wildcard covers IPv6",
            "place.host in _ANY or place.family not in wild",
            "place.host in _ANY or not wild",
            f"{_LISTENING}: test_places",
        ),
        (
            "sockets stay open after a failure",
            "        close_all(listening)\n        raise",
            "        raise",
            f"{_LISTENING}: leaves_nothing_open",
        ),
        (
            "port 0 is another one for each address",
            "port = port or sock.getsockname()[1]",
            "sock.getsockname()",
            f"{_LISTENING}: port_0",
        ),
        (
            "an IPv6 socket takes IPv4 too",
            "_socket.IPV6_V6ONLY, 1)",
            "_socket.IPV6_V6ONLY, 0)",
            f"{_LISTENING}: port_0",
        ),
        (
            "an address that is not there counts as a running epmd",
            "is_in_use = error.errno == errno.EADDRINUSE",
            "is_in_use = error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)",
            f"{_LISTENING}: does_not_have_is_a_failure",
        ),
        (
            "it does not serve without IPv6",
            'not asked and ":" not in host',
            "not asked",
            f"{_LISTENING}: may_be_missing",
        ),
    ],
    f"{_LIB}/server/networks.py": [
        (
            "all IPv4 addresses, mapped, are no IPv4 network",
            "size >= 0 and first",
            "size > 0 and first",
            "unit/test_networks.py: test_network",
        ),
        (
            "any wide IPv6 network is one of IPv4",
            "if read.version == 6 and size >= 0 and first >> 32 == _MAPPED_PREFIX:",
            "if read.version == 6 and size >= 0:",
            "unit/test_networks.py: test_network",
        ),
        (
            "an IPv6 address is cut",
            'return host if ":" in mapped else mapped',
            "return mapped",
            "unit/test_networks.py: plain_host",
        ),
        (
            "of 127.0.0.0/8 only a part is local",
            'plain.startswith("127.")',
            'plain.startswith("127.0.")',
            f"{_LISTENING}: is_local",
        ),
        (
            "this host's own address is another host's on a dual-stack socket",
            "return loopback or peer == own()[0]",
            "return loopback or plain == own()[0]",
            f"{_LISTENING}: is_local",
        ),
        (
            "the log has an IPv6 address without brackets",
            'f"[{host}]:{port}" if ":" in host else',
            'f"{host}:{port}" if ":" in host else',
            "unit/test_networks.py: peer_name",
        ),
    ],
    f"{_LIB}/server/log.py": [
        (
            "a stream that another process has replaced is taken for the journal",
            'return stream == f"{status.st_dev}:{status.st_ino}"',
            "return True",
            "program/serving/test_log.py: test_journal and another and source",
        ),
        (
            "a flood is logged ten lines a second",
            "_SECONDS_BETWEEN_COMPLAINTS = 1.0",
            "_SECONDS_BETWEEN_COMPLAINTS = 0.1",
            "program/serving/test_log.py: left_out",
        ),
        (
            "a flood is as good as not logged",
            "_SECONDS_BETWEEN_COMPLAINTS = 1.0",
            "_SECONDS_BETWEEN_COMPLAINTS = 3600.0",
            "program/serving/test_log.py: left_out",
        ),
        (
            "what was left out of the log is not told",
            'missed else ""',
            'missed > 9 else ""',
            "program/serving/test_log.py: left_out",
        ),
        (
            "a reader of stderr that has gone ends a connection",
            "except OSError:\n            pass\n\n\ndef is_journal",
            "except BlockingIOError:\n            pass\n\n\ndef is_journal",
            "program/serving/test_log.py: stderr_that_is_full",
        ),
        (
            "why a daemon does not start is in syslog alone",
            "        self.say(0, text, ERROR)\n        if self._syslog:\n            self._line(text, ERROR)",
            "        self.say(0, text, ERROR)",
            "program/process/test_daemon.py: failure_is_on_stderr and Source and none",
        ),
        (
            "a name in a table of the log controls the terminal",
            "***** {printable(row)}",
            "***** {row}",
            "program/serving/test_log.py: rows_control",
        ),
        (
            "a line may block a pipe that has room for less",
            "[: PIPE_BUF - len(end)]",
            "",
            "program/serving/test_log.py: no_longer_than_a_pipe",
        ),
        (
            "-d dumps each packet",
            "if self.level < 2 or self._syslog:",
            "if self.level < 1 or self._syslog:",
            "program/serving/test_log.py: test_levels and Source and 1",
        ),
        (
            "a dump of a packet is too long",
            "_DUMPED = 1024",
            "_DUMPED = 1040",
            "program/serving/test_log.py: cut_short and Source",
        ),
    ],
    f"{_LIB}/server/events.py": [
        (
            "health checks count as malformed requests",
            "self.counts.malformed += bool(got)",
            "self.counts.malformed += 1",
            "program/process/test_metrics.py: has_happened and Source",
        ),
        (
            "the end of a node is not logged",
            '            self._node("unregistering", node)\n',
            "            pass\n",
            f"{_LIFE} and comes_back_after and debug",
        ),
        (
            "-d does not name each request",
            'self.log.say(1, f"** got {title}")',
            'self.log.say(2, f"** got {title}")',
            "program/serving/test_log.py: test_levels and Source and 1",
        ),
        (
            "a complaint does not say whose",
            'self.log.complain(f"{kind} from %s", *details, peer)',
            "self.log.complain(kind, *details)",
            "program/serving/test_log.py: ends_with_the_peer",
        ),
    ],
    f"{_LIB}/server/settings.py": [
        (
            "a packet timeout of 0 is taken",
            '_check("packet_timeout", settings.packet_timeout, 1)',
            '_check("packet_timeout", settings.packet_timeout, 0)',
            "program/library/test_embedding.py: what_cannot_be and not Threaded",
        ),
    ],
    f"{_LIB}/server/embedding.py": [
        (
            "a failure inside is lost",
            "        self.keep(error)\n        super().failed(error)",
            "        super().failed(error)",
            "program/library/test_embedding.py: failures_inside and not Threaded",
        ),
        (
            "a forked child serves its parent's peers",
            "        _serving.add(self)\n",
            "",
            "program/library/test_forks.py: serves_on_alone and loop and runs",
        ),
        (
            "a mapper at any port is started twice",
            "if self._mapper is not None:\n            raise RuntimeError(_STARTED)",
            "if self._mapper is not None and self._settings.port:\n            raise RuntimeError(_STARTED)",
            "program/library/test_embedding.py: serves_from_start and not Threaded",
        ),
    ],
    f"{_LIB}/program/options.py": [
        (
            "two of an option's values are one",
            "else [*self[name], value]",
            "else [value]",
            "program/command/test_quick.py: as_docopt_reads",
        ),
        (
            "a variable that counts if it is set at all has to have a value",
            '"ERL_EPMD_RELAXED_COMMAND_CHECK" in environ',
            'bool(environ.get("ERL_EPMD_RELAXED_COMMAND_CHECK"))',
            f"{_LIFE} and relaxed_by_the_environment",
        ),
        (
            "a bad variable of a server keeps others from asking",
            "{} if command else environ",
            "environ",
            "program/command/test_variables.py: who_asks and source",
        ),
        (
            "a variable that is set to nothing counts",
            "if (value := self._environ.get(variable)) else []",
            "if (value := self._environ.get(variable)) is not None else []",
            "program/command/test_variables.py: nothing_counts",
        ),
        (
            "the first of two files counts",
            "return given[-1] if given else ABSENT",
            "return given[0] if given else ABSENT",
            "program/command/test_variables.py: last_one_counts",
        ),
        (
            "-port 0 asks port 0",
            "if options.port == 0 and options.command:",
            "if options.port < 0 and options.command:",
            "program/command/test_own_options.py: bad_line and port_file and names",
        ),
        (
            "a daemon may write its port to the stdout that it has not",
            "            if daemon:\n                raise ValueProblem",
            "            if not daemon:\n                raise ValueProblem",
            "program/command/test_variables.py: has_no_stdout",
        ),
        (
            "a daemon cannot tell that there is no folder for its file",
            "if not os.path.isdir(",
            "if False and not os.path.isdir(",
            "program/command/test_variables.py: fault_names_the_variable",
        ),
        (
            "blanks do not separate addresses",
            'text.replace(",", " ").split(" ")',
            'text.split(",")',
            f"{_LISTENING}: only_at_the_addresses and InProcess and option",
        ),
        (
            "who waits for a file waits in vain where an epmd runs",
            'must_serve=any(found[f"--{name}"] for name in _FILES)',
            "must_serve=bool(files[0].value)",
            "program/process/test_pid_file.py: port_in_use and source",
        ),
    ],
    f"{_LIB}/program/line.py": [
        (
            "the first of two ports counts",
            "return numbers[-1] if numbers else default_port",
            "return numbers[0] if numbers else default_port",
            "program/command/test_variables.py: last_one_counts",
        ),
        (
            "something may follow -names",
            "        if last and rest and not",
            '        if last == word == "--help" and rest and not',
            f"{_LINE} and test_usage and names",
        ),
        (
            "-port without a number fails with a traceback",
            "if known[word] and not rest:",
            "if known[word] and not known:",
            f"{_LINE} and test_usage and port",
        ),
    ],
    f"{_LIB}/program/quick.py": [
        (
            "-daemon with another address finds the epmd that is there",
            '(("ERL_EPMD_PORT", ',
            '(("ERL_EPMD_ADDRESS", "ERL_EPMD_PORT", ',
            "program/command/test_quick.py: listen_elsewhere and ADDRESS",
        ),
        (
            "a bad number is not told",
            "except ValueProblem:\n        return False",
            "except ValueProblem:\n        return True",
            "program/command/test_quick.py: bad_number and soon",
        ),
    ],
    f"{_LIB}/program/calls.py": [
        (
            "a reader that has gone does not end it",
            "_signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)",
            "_signal.getsignal(_signal.SIGPIPE)",
            f"{_LINE} and broken_pipe",
        ),
        (
            "another host controls the terminal",
            "_harmless(text) if ask.host or posix.isatty(1) else text",
            "text",
            "program/command/test_hostile_lines.py: other_hosts_cannot and source",
        ),
        (
            "-json controls the terminal",
            "if not line.isprintable():",
            "if line.isascii() and not line.isprintable():",
            "program/command/test_hostile_lines.py: json_cannot and source",
        ),
        (
            "a value on the line controls the terminal",
            'epmd: {printable(text)}\\n".encode()',
            'epmd: {text}\\n".encode()',
            "program/command/test_hostile_lines.py: with_rubbish and 2",
        ),
        (
            "a name longer than C's buffer is sent",
            "_LONGEST_STOP_NAME = 1000",
            "_LONGEST_STOP_NAME = 1001",
            f"{_LINE} and without_an_epmd and stop",
        ),
        (
            "a full pipe loses a part of the output",
            "            time.sleep(_PAUSE)\n",
            "            return\n",
            "program/command/test_hostile_lines.py: does_not_block_is_whole and source",
        ),
        (
            "an error about another host is on stdout",
            "say(2 if ask.host else 1, str(error))",
            "say(1, str(error))",
            f"{_OWN} and what_answers_is_no_epmd",
        ),
        (
            "a refused -kill ends with 0",
            'living nodes in database.\\n")\n        return 1',
            'living nodes in database.\\n")\n        return 0',
            f"{_LINE}-source and with_nodes",
        ),
    ],
    f"{_LIB}/program/cli.py": [
        (
            "a closed stderr becomes a socket",
            "while descriptor <= 2:",
            "while descriptor < 2:",
            "unit/test_descriptors.py",
        ),
        (
            "a descriptor is left open",
            "        descriptor = posix.dup(descriptor)\n    posix.close(descriptor)",
            "        descriptor = posix.dup(descriptor)",
            "unit/test_descriptors.py",
        ),
        (
            "Ctrl-C prints a traceback",
            "_signal.signal(_signal.SIGINT, _signal.SIG_DFL)",
            "_signal.getsignal(_signal.SIGINT)",
            f"{_DAEMON} and foreground and SIGINT",
        ),
        (
            "closed standard descriptors become sockets",
            "    open_standard_descriptors()\n",
            "",
            f"{_DAEMON} and without_standard",
        ),
    ],
    f"{_LIB}/program/start.py": [
        (
            "who asks for a report ends a start",
            "    signals.ignore_requests_for_reports()\n",
            "",
            "program/process/test_metrics.py: before_it_serves",
        ),
        (
            "the status is 0 though the file is not written",
            "return 1 if options.must_serve else 0",
            "return 0",
            f"{_OWN} and port_is_taken",
        ),
        (
            "a daemon closes systemd's sockets",
            "keep=systemd.descriptors(os.environ) if options.systemd else ()",
            "",
            "program/process/test_systemd.py: daemon_keeps and source",
        ),
        (
            "a file is left when the caller hears of a failure",
            "is told of the failure.\n        at_end.run()",
            "is told of the failure.",
            "program/process/test_user.py: nothing_is_left",
        ),
        (
            "a failure is told without its type",
            "str(error) if isinstance(error, told) else repr(error)",
            "str(error)",
            "program/process/test_daemon.py: after_it_has_detached and KeyError",
        ),
    ],
    f"{_LIB}/program/run.py": [
        (
            "networks that were read again have no effect",
            "    mapper.let_in(settings)\n",
            "",
            f"{_OWN} and allow_file_is_read",
        ),
        (
            "metrics are written by root alone",
            "            events.log.hold_terminal()\n",
            "            events.log.hold_terminal()\n            self._reporter.start()\n",
            "program/process/test_metrics.py: user_must and Source",
        ),
        (
            "it tells a systemd that waits for another service",
            "if self._options.systemd and not",
            "if True and not",
            "program/process/test_systemd.py: nothing_is_said and source",
        ),
        (
            "it serves systemd's sockets as its own",
            "shared=self._options.systemd",
            "shared=False",
            "program/process/test_systemd.py: end_leaves_the_sockets",
        ),
        (
            "the port file stays",
            "            at_end.add(partial(file.remove_or_tell, events.file_failed))\n",
            "            pass\n",
            f"{_OWN} and any_port and KILL",
        ),
        (
            "the pid file has another number",
            "(options.pid_file, os.getpid())",
            "(options.pid_file, os.getppid())",
            "program/process/test_pid_file.py: until_its_end and Source and TERM",
        ),
    ],
    f"{_LIB}/program/takeover.py": [
        (
            "a program in which an epmd is embedded is taken over",
            "process.kind != procfs.OTHER]",
            "process.kind]",
            "program/command/test_takeover.py: embedded",
        ),
        (
            "half a request keeps an epmd for ever",
            "any(self._odd.get(inode, 0) + 1 < _PATIENCE for inode in odd)",
            "odd",
            "program/command/test_takeover.py: half_a_request",
        ),
        (
            "the former epmd stays stopped if the new one is killed",
            "            _send(pidfd, signal.SIGCONT)\n            ending.undo()",
            "            ending.undo()",
            "program/command/test_takeover.py: one_is_stopped",
        ),
        (
            "nodes are listed in another order",
            "for node in reversed(dump.active)",
            "for node in dump.active",
            "program/command/test_takeover.py: nodes_stay and C and Source",
        ),
        (
            "whoever has connected to an address that is given up is cut off",
            "            listener.retire()",
            "            listener.shut_down()",
            "program/command/test_takeover.py: other_addresses and Source and loopback",
        ),
        (
            "root gets the rights of root without a word",
            '        if user not in ("", now):',
            "        if False:",
            "program/command/test_takeover.py: root_is_told",
        ),
        (
            "a take-over cuts off who has connected and not asked yet",
            "                unread.append(sock)\n",
            "                pass\n",
            "program/command/test_takeover.py: nodes_stay and C-Source",
        ),
        (
            "creations come again after a take-over",
            "unread, answered, remembered, self._creation())",
            "unread, answered, remembered, 0)",
            "program/command/test_takeover.py: creations_go_on",
        ),
        (
            "a take-over removes what another process has put in place of a pid file",
            "if os.path.samestat(os.lstat(path), about):",
            "if os.lstat(path):",
            "program/command/test_takeover.py: replaced_meanwhile",
        ),
        (
            "a take-over removes any file that the former epmd keeps open",
            'if content == b"%d\\n" % self.process.pid or',
            "if content or",
            "program/command/test_takeover.py: files_of_the_former",
        ),
        (
            "each start of a node replaces the epmd",
            'if options.takeover == "other" and',
            'if options.takeover == "none" and',
            "program/command/test_takeover.py: variable_replaces and Source",
        ),
        (
            "a take-over ends a container",
            "if procfs.innermost_pid(parent) == 1:",
            "if procfs.innermost_pid(parent) == 0:",
            "program/command/test_takeover.py: first_process",
        ),
        (
            "the former epmd stays stopped if the new one hangs",
            "patience = _MOST_STOPPED if word == _STOP else None",
            "patience = None",
            "program/command/test_takeover.py: new_one_that_is_slow",
        ),
    ],
    f"{_LIB}/program/process/store.py": [
        (
            "a node that ended while nobody served is listed",
            " and not has_ended(sock)",
            "",
            "program/process/test_store.py: outlive and SIGKILL and source",
        ),
        (
            "packets that are longer than a name are lost",
            "bytes.fromhex(packet) or content",
            "bytes.fromhex(packet)",
            "program/process/test_store.py: outlive and SIGKILL and source",
        ),
        (
            "what systemd was too slow to receive is lost",
            "if error.errno in _LATER:",
            "if not error.errno:",
            "program/process/test_store.py: hundred",
        ),
        (
            "of two entries of a node the older one has the name",
            "key=lambda entry: entry.number)",
            "key=lambda entry: -entry.number)",
            "program/process/test_store.py: hundred",
        ),
        (
            "an entry gets the number of another one",
            "self._number = taken.number",
            "self._number = 0",
            "program/process/test_store.py: outlive and SIGKILL and source",
        ),
    ],
    f"{_LIB}/program/process/daemon.py": [
        (
            "it serves as few nodes as its caller's limit allows",
            "setrlimit(resource.RLIMIT_NOFILE, (hard, hard))",
            "getrlimit(resource.RLIMIT_NOFILE)",
            "program/serving/test_life.py: more_nodes and Source",
        ),
        (
            "a daemon stays in its caller's session",
            "    os.setsid()\n",
            "",
            f"{_DAEMON} and nothing_is_kept",
        ),
        (
            "a daemon ends with its terminal",
            "    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)\n",
            "",
            f"{_DAEMON} and nothing_is_kept",
        ),
        (
            "a daemon keeps its caller's folder",
            '    os.chdir("/")\n',
            "",
            f"{_DAEMON} and nothing_is_kept",
        ),
        ("a daemon keeps its caller's umask", "    os.umask(0)\n", "", f"{_DAEMON} and nothing_is_kept"),
        (
            "a daemon keeps its caller's stderr",
            "for descriptor in (0, 1, 2):",
            "for descriptor in (0, 1):",
            f"{_DAEMON} and nothing_is_kept",
        ),
        (
            "a zombie is left to process 1",
            "        reap(intermediate)\n",
            "",
            "program/process/test_daemon.py: no_zombie and Source",
        ),
        (
            "a daemon that dies before it serves is no failure",
            "if word[:1] != _READY:",
            "if word and word[:1] != _READY:",
            "program/process/test_daemon.py: after_it_has_detached and SystemExit",
        ),
    ],
    f"{_LIB}/program/process/files.py": [
        (
            "half a file is put in place where there is no room",
            "        if os.write(writing, content) < len(content):",
            "        if not os.write(writing, content):",
            "unit/test_files.py: no_room",
        ),
        (
            "each write leaves a descriptor open",
            "        self._close()\n        self._open = folder",
            "        self._open = folder",
            "unit/test_files.py: written_again",
        ),
        (
            "the file of a successor is removed",
            "if os.path.samestat(os.lstat(",
            "if True or os.path.samestat(os.lstat(",
            "unit/test_files.py: other_files",
        ),
        (
            "a file that could not be put in place is left",
            "            os.unlink(aside, dir_fd=folder)\n",
            "            pass\n",
            "unit/test_files.py: failure",
        ),
        (
            "others may not read the port file",
            "0o644",
            "0o600",
            "program/command/test_own_options.py: mode_of_the_port_file",
        ),
    ],
    f"{_LIB}/program/metrics.py": [
        (
            "there are no metrics when descriptors run out",
            "_MOST_CLOSED = 3",
            "_MOST_CLOSED = 0",
            "program/process/test_metrics.py: no_descriptor",
        ),
        (
            "a file that cannot be written fills the log",
            'if failure not in ("", self._failure):',
            "if failure:",
            "program/process/test_metrics.py: again_and_again",
        ),
        (
            "a start that fails leaves its metrics",
            "            if self._file is not None and self.serves:",
            "            if self._file is not None:",
            "program/process/test_metrics.py: never_served",
        ),
        (
            "an epmd that has ended is up",
            "self._write(self._file, up=0)",
            "self._write(self._file)",
            "program/process/test_metrics.py: test_end and TERM",
        ),
        (
            "who was too slow counts as one of too many",
            '"timed_out": counts.timed_out,',
            '"timed_out": counts.crowded_out,',
            "program/process/test_metrics.py: has_happened and Source",
        ),
    ],
    f"{_LIB}/program/process/at_end.py": [
        (
            "what was made first is removed first",
            "_stack.pop()()",
            "_stack.pop(0)()",
            "unit/test_at_end.py",
        ),
    ],
    f"{_LIB}/program/process/watch.py": [
        (
            "a process that has ended is taken for a live one",
            "except ProcessLookupError:\n        return True",
            "except ProcessLookupError:\n        return False",
            "program/command/test_own_options.py: test_gone",
        ),
    ],
    f"{_LIB}/program/process/privileges.py": [
        (
            "programs may get root's rights back",
            "        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)\n",
            "",
            "program/process/test_user.py: whom_it_serves_as",
        ),
        (
            "some capabilities stay in the bounding set",
            "_MOST_CAPABILITIES = 64",
            "_MOST_CAPABILITIES = 32",
            "program/process/test_user.py: whom_it_serves_as",
        ),
        (
            "inheritable capabilities stay",
            "        _capset(_CAPABILITY_HEADER, _NO_CAPABILITIES)\n",
            "",
            "program/process/test_user.py: odd_roots and inheritable",
        ),
        (
            "the way back to root stays open",
            "os.setresuid(self.uid, self.uid, self.uid)",
            "os.setresuid(self.uid, self.uid, _ROOT)",
            "program/process/test_user.py: whom_it_serves_as",
        ),
        (
            "root's groups stay",
            "            os.setgroups(self.groups)\n",
            "",
            "program/process/test_user.py: odd_roots and groups",
        ),
        (
            "the user's other groups are missing",
            "os.getgrouplist(entry.pw_name, gid) if entry else [gid]",
            "[gid]",
            "program/process/test_user.py: whom_it_serves_as",
        ),
        (
            "a number without a user needs no group",
            "if not colon and entry is None:",
            "if not colon and not name:",
            "program/process/test_user.py: cannot_be_meant",
        ),
    ],
    f"{_LIB}/program/occupant.py": [
        (
            "another program at the port is taken for an epmd",
            "        if not met:\n            raise in_use",
            "        if met:\n            raise in_use",
            "program/serving/test_strangers.py: who_has_its_port and ClosesAtOnce and Source and not file",
        ),
        (
            "an epmd that is just ending is a failure",
            "if time.monotonic() >= end:",
            "if time.monotonic() < end:",
            "program/serving/test_strangers.py: leaves_at_once and source and full",
        ),
    ],
    f"{_LIB}/program/process/systemd.py": [
        (
            "sockets for another process are taken",
            'return environ.get("LISTEN_PID") == str(os.getpid())',
            'return "LISTEN_PID" in environ',
            "program/process/test_systemd.py: no_sockets_for_this_process and source",
        ),
        (
            "systemd is told of another process",
            "MAINPID={os.getpid()}",
            "MAINPID={os.getppid()}",
            "program/process/test_systemd.py: sockets_and_notification and source",
        ),
        (
            "entries of the descriptor store are taken for sockets to listen on",
            "isinstance(descriptor, int) and name.startswith(STORED)",
            "False",
            "program/process/test_store.py: outlive and SIGKILL and source",
        ),
    ],
    f"{_LIB}/program/process/signals.py": [
        (
            "a signal leaves the files behind",
            "    at_end.run()\n",
            "",
            f"{_OWN} and any_port and TERM",
        ),
        (
            "a hang-up leaves the files behind",
            "_signal.SIGQUIT, _signal.SIGHUP)",
            "_signal.SIGQUIT)",
            f"{_OWN} and any_port and HUP",
        ),
        (
            "a hang-up is ignored though there is a file to read again",
            "if number == _signal.SIGHUP and hang_up is not None:",
            "if number == _signal.SIGHUP and hang_up is not None and handler == _signal.SIG_DFL:",
            "program/command/test_own_options.py: hang_up_of_a_daemon",
        ),
    ],
    f"{_LIB}/program/executable/launcher.py": [
        (
            "an emulated launcher is none",
            'return own != _command_line(f"self/task/{posix.getpid()}")',
            "return False",
            "unit/test_launcher.py: test_parent",
        ),
    ],
    f"{_LIB}/program/check/findings.py": [
        (
            "-check ends with 1 for a warning",
            "return int(any(finding.state == WRONG for finding in found))",
            "return int(any(finding.state != OK for finding in found))",
            "unit/test_findings.py: all_is_well",
        ),
        (
            "-check blames a closed port for a program that is mute",
            "for code in (probe.STRANGER, probe.MUTE, probe.CLOSED, *blocked, REFUSED):",
            "for code in (REFUSED, probe.CLOSED, probe.MUTE, probe.STRANGER):",
            "unit/test_findings.py: worst",
        ),
        (
            "-check does not see that the port is open to all",
            'if host != "::1" and not host.startswith("127.")',
            'if host not in procfs.ANY and host != "::1" and not host.startswith("127.")',
            "unit/test_findings.py: all_is_well",
        ),
        (
            "-check takes a stranger's socket on another address for the epmd's",
            "return (asked | held) - served",
            "return set()",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check does not warn of an -allow for everybody",
            "network.prefixlen < _LEAST_PREFIX[network.version]",
            "network.prefixlen < 0",
            "unit/test_findings.py: test_situation",
        ),
        (
            "what is wrong can be accepted",
            "if finding.state == WARNING and finding.code in accepted",
            "if finding.code in accepted",
            "unit/test_findings.py: accepted",
        ),
    ],
    f"{_LIB}/program/check/of_nodes.py": [
        (
            "-check calls a node of another host dead",
            "    if node.peer:\n",
            "    if False:\n",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check calls a node that is stopped well",
            "if owner.is_stopped():",
            'if owner.state == "Z":',
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check calls a process that registers for a node another program",
            "if os.path.basename(owner.path).startswith(_BEAM):",
            "if not owner.path:",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check warns of a node that has the name it advised",
            "if any(host == last.host or",
            "if any(",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check advises to end a node whose port a firewall closes",
            "if answer.code == REFUSED and sight.listeners is not None:",
            "if sight.listeners is not None:",
            "unit/test_findings.py: test_node",
        ),
        (
            "-check advises to end a live node",
            "or any(owner.pid in pids for owner in node.owners):",
            "or not pids:",
            "unit/test_findings.py: test_node",
        ),
    ],
    f"{_LIB}/program/check/advice.py": [
        (
            "-check advises to end process 1",
            "any(holder.pid == 1 for",
            "any(holder.pid == 0 for",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check advises an option that has no effect with systemd's sockets",
            'return len(epmds) == 1 and "-systemd" in epmds[0].line',
            "return False",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check advises loopback alone where nodes look elsewhere",
            "if at in sight.own and not _is_loopback(at)]",
            "if False]",
            "unit/test_findings.py: test_situation",
        ),
        (
            "one drop-in for a socket unit undoes the one before",
            "[*_listens_on(sight), at]",
            "[at]",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check advises units that this host does not have",
            "sight.epmd().unit or",
            "",
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check advises a drop-in over which a file takes precedence",
            'environ.get("ERL_EPMD_ALLOW_FILE", "")',
            '""',
            "unit/test_findings.py: test_situation",
        ),
        (
            "-check advises to end a process on the word of what is no epmd",
            "if process.kind == procfs.OTHER and not",
            "if not process.kind and not",
            "unit/test_findings.py: test_situation",
        ),
    ],
    f"{_LIB}/program/check/evidence.py": [
        (
            "-check takes a node of another host for one of this host",
            'peer = "" if holders or is_here(end.remote[0]) else end.remote[0]',
            'peer = ""',
            "program/check/test_situations.py: test_situation and node_of_another_host",
        ),
        (
            "-check does not find an epmd at another port",
            "dict.fromkeys(numbers - {0, port}, one)",
            "dict.fromkeys(numbers & {port}, one)",
            "program/check/test_situations.py: test_situation and epmd_at_another_port",
        ),
        (
            "-check does not see an epmd in another network namespace",
            'if network in ("", procfs.network_of(os.getpid())):',
            "if network:",
            "program/check/test_situations.py: test_cure and forwarded_port",
        ),
        (
            "-check does not see that erl was upgraded",
            "return Installed(*procfs.kind_of_file(path), path)",
            "return None",
            "program/check/test_situations.py: test_situation and erlang_was_upgraded",
        ),
    ],
    f"{_LIB}/program/process/procfs.py": [
        (
            "-check does not find who holds a connection to a dual-stack socket",
            "return plain_host(host), port",
            "return host, port",
            "program/check/test_situations.py: test_situation and dual_stack",
        ),
        (
            "C's program under the names of our package is unknown",
            r"(?:\.erlang|\.c-original)?",
            "",
            "program/check/test_situations.py: test_situation and names_of_cs_program",
        ),
    ],
    f"{_LIB}/program/check/units.py": [
        (
            "-check does not ask systemd",
            "if not is_running():",
            "if is_running():",
            "program/check/test_situations.py: test_situation and units_of_systemd",
        ),
    ],
    f"{_LIB}/program/check/look.py": [
        (
            "-check asks any number of addresses",
            "places = places[: _MOST_ADDRESSES - len(self.answers)]",
            "pass",
            "program/check/test_situations.py: test_situation and many_own_addresses",
        ),
        (
            "-check takes many descriptors of an epmd at a time",
            "else most - used",
            "else most",
            "unit/test_findings.py: same_time",
        ),
    ],
    f"{_LIB}/program/check/probe.py": [
        (
            "-check takes what answers NAMES for an epmd of this host",
            "        return _failed(error).code, {}\n",
            "        return ANSWERS, {}\n",
            "program/check/test_situations.py: test_situation and epmd_of_a_container",
        ),
        (
            "a list of any length is kept",
            "kept += piece[:room]",
            "kept += piece",
            "unit/test_probe.py: list",
        ),
    ],
    f"{_LIB}/client/exchange.py": [
        (
            "the port of a listing is read turned round",
            'int.from_bytes(head, "big")',
            'int.from_bytes(head, "little")',
            f"{_CLIENT}: names_and_look_ups and InProcess",
        ),
        (
            "-daemon beside another program fails with a traceback",
            "except EpmdError:\n        return False",
            "except NoEpmdError:\n        return False",
            "program/serving/test_strangers.py: who_has_its_port and ClosesAtOnce and Source and not file",
        ),
        (
            "half a listing counts as an epmd's",
            'text.endswith(b"\\n") and ',
            "",
            "program/library/test_client.py: whole_and_right",
        ),
        (
            "a listing of another protocol is read",
            "if port > wire.MOST_PORT:",
            "if port < 0:",
            f"{_CLIENT}: another_protocol",
        ),
        (
            "any answer to KILL and STOP will do",
            "if answer not in known:",
            "if not answer:",
            f"{_CLIENT}: another_protocol",
        ),
        (
            "a connection to itself is an epmd",
            "if sock.getsockname()[:2] == address[:2]:",
            "if sock.getsockname()[:2] == ():",
            "unit/test_exchange.py: itself_is_refused",
        ),
        (
            "the longest listing is refused",
            "if len(whole) + len(piece) > most:",
            "if len(whole) + len(piece) >= most:",
            "program/command/test_hostile_repliers.py: longest_listing",
        ),
        (
            "a STOP that is not allowed is another error",
            "if len(answer) < len(known[0]):",
            "if answer and len(answer) < len(known[0]):",
            f"{_CLIENT}: not_allowed and InProcess",
        ),
    ],
    f"{_LIB}/client/__init__.py": [
        (
            "a part that cannot be imported is a name that does not exist",
            "except AttributeError as error:",
            "except ZeroDivisionError as error:",
            f"{_CLIENT}: error_of_an_import",
        ),
    ],
    f"{_LIB}/client/waiting.py": [
        (
            "a wait takes longer than its limit",
            "if time.monotonic() < end:\n                raise",
            "raise",
            "program/library/test_plugin.py: keeps_its_limit and wait_for",
        ),
    ],
    f"{_LIB}/aio.py": [
        (
            "the first address takes the whole time limit",
            "patience = HEAD_START if waiting else None",
            "patience = None",
            f"{_CLIENT}: next_address",
        ),
        (
            "a registration of asyncio ends with the call that made it",
            "streams, self.streams = self.streams, None",
            "streams = self.streams",
            f"{_CLIENT}: asyncio and InProcess",
        ),
    ],
    f"{_LIB}/client/checks.py": [
        (
            "a hidden node is registered as a normal one",
            "HIDDEN_NODE if hidden else NORMAL_NODE",
            "NORMAL_NODE",
            f"{_CLIENT}: test_registration and InProcess",
        ),
        (
            "a node's name may have a host",
            'if "@" in name:',
            'if "@@" in name:',
            f"{_CLIENT}: no_node_could_have",
        ),
    ],
    f"{_LIB}/client/api.py": [
        (
            "a forked child ends its parent's registration",
            "if os.getpid() == self._owner:",
            "if self._owner:",
            "program/library/test_forks.py: owner_alone",
        ),
        (
            "a registration lives on in a forked child",
            "self._sock.shutdown(_socket.SHUT_WR)",
            "return",
            "program/library/test_forks.py: owner_alone",
        ),
        (
            "a name is taken for a while after its registration was closed",
            "if not self._sock.recv(1):",
            "if True:",
            "program/library/test_plugin.py: name_is_free",
        ),
        (
            "a time-out of the connection is no TimeoutError",
            "kind = ConnectTimeoutError",
            "pass",
            f"{_CLIENT}: limit_is_for_the_connection",
        ),
    ],
    f"{_LIB}/client/queries.py": [
        (
            "a refused node counts as registered",
            "if answer[1]:",
            "if answer[1] > 1:",
            f"{_CLIENT}: test_registration and InProcess",
        ),
        (
            "a KILL that was refused looks like one that worked",
            "== wire.KILL_NO:",
            "== wire.KILL_OK + wire.KILL_NO:",
            f"{_CLIENT}: not_allowed and InProcess",
        ),
    ],
    f"{_LIB}/client/answers.py": [
        (
            "a name that contains the end of a line is cut",
            r"\n(?=name |\Z)",
            r"\n",
            "program/command/test_hostile_repliers.py: read_as_they_were",
        ),
        (
            "thousands of digits are an error inside",
            "if len(end[1]) <= MOST_DIGITS:",
            "if len(end[1]):",
            "program/command/test_hostile_repliers.py: digits_without_end and json",
        ),
    ],
    f"{_LIB}/testing/process.py": [
        (
            "a mapper comes back at another port",
            "Running(self._line(self.port, *options))",
            "Running(self._line(0, *options))",
            "program/library/test_plugin.py: restart",
        ),
        (
            "a closed mapper's registrations stay open",
            "            registration.close(timeout=0)\n",
            "            pass\n",
            "program/library/test_plugin.py: holds_nothing",
        ),
        (
            "closed registrations are kept for ever",
            "        registration.on_close = self._registrations.discard\n",
            "",
            "program/library/test_plugin.py: is_forgotten",
        ),
        (
            "nodes lose their other flags",
            "f\"{os.environ.get('ERL_ZFLAGS', '')} -start_epmd false\"",
            'f" -start_epmd false"',
            "program/library/test_plugin.py: test_environment",
        ),
        (
            "a node that is not there is killed",
            "if not client.stop(name, port=self.port):",
            "if client.stop(name, port=self.port) is None:",
            "program/library/test_plugin.py: killed_node",
        ),
        (
            "a mapper listens at more addresses than it may",
            "return sorted(own)[: MAX_LISTEN_SOCKETS - len(LOOPBACK)]",
            "return sorted(own)[:MAX_LISTEN_SOCKETS]",
            "program/library/test_plugin.py: more_addresses",
        ),
    ],
    f"{_LIB}/testing/plugin.py": [
        (
            "an old pytest fails with a traceback",
            "< _LEAST_PYTEST:",
            "< 0:",
            "program/library/test_plugin.py: old_pytest",
        ),
    ],
    f"{_LIB}/testing/running.py": [
        (
            "a mapper that is stopped is waited for",
            'in b"Tt"',
            'in b"t"',
            "program/library/test_plugin.py: not_want and stopped and check",
        ),
    ],
    f"{_LIB}/testing/watch.py": [
        (
            "a failed test does not show its mapper's log",
            "if mapper.serves and mapper.news():",
            "if not mapper.serves and mapper.news():",
            "program/library/test_plugin.py: log_is_shown",
        ),
        (
            "fixtures ignore the options of the project",
            "_watched(EpmdProcess(*_exit_options(config), *options), config)",
            "_watched(EpmdProcess(*_exit_options(config)), config)",
            "program/library/test_plugin.py: overridden",
        ),
    ],
    "scripts/_keeping": [
        (
            "a place has no epmd for a moment",
            'put_link() { remove "$2.gevent-new" && ln -s -T -- "$1" "$2.gevent-new" && mv',
            'put_link() { remove "$2.gevent-new" && ln -s -T -- "$1" "$2.gevent-new" && rm -f -- "$2" && mv',
            f"{_INSTALL}: killed_at_any_step and upgrade",
        ),
    ],
    "build/package/functions": [
        (
            "the command that hands over gives the rights of root",
            '*) start="$start -user $user"',
            "*)",
            "packaging/test_package.py: root_copies",
        ),
        (
            "root is shown what a user has chosen",
            'elif is_plain "$words"; then',
            "elif :; then",
            "packaging/test_package.py: root_copies",
        ),
        (
            "a user's program is taken for an epmd",
            'esac || [ "$(stat -c %u "$process" 2>/dev/null)" = 0 ] || continue',
            "esac || true",
            "packaging/test_package.py: root_copies",
        ),
    ],
    "scripts/install": [
        (
            "an original that is kept already is overwritten",
            "    stray) die ",
            "    never) die ",
            f"{_INSTALL}: in_the_way",
        ),
        (
            "what is installed is for its owner alone",
            'chmod -R u=rwX,go=rX -- "$1"',
            'chmod -R u=rwX -- "$1"',
            f"{_INSTALL}: install_and_uninstall",
        ),
        (
            "a file is taken for a root of Erlang",
            '[ -d "$erlang" ] || die "$erlang: not a folder"',
            "true",
            f"{_INSTALL}: wrong_erlang_root and epmd",
        ),
        (
            "a replacement by others is overwritten",
            '    replaced)\n        [ "$force" ]',
            '    never)\n        [ "$force" ]',
            f"{_INSTALL}: foreign_replacement_is_left",
        ),
        (
            "what an upgrade has put there is lost",
            "keep_anew epmd epmd.c-original",
            "keep epmd epmd.c-original",
            f"{_INSTALL}: force_takes_a_place_back and checkout",
        ),
        (
            "one folder that was made is left",
            "count > 0; count--",
            "count > 1; count--",
            f"{_INSTALL}: folders_that_were_made",
        ),
        (
            "a library in use is removed",
            '    if [ "$others" ]; then',
            '    if [ -z "$library" ]; then',
            f"{_INSTALL}: prefix_only",
        ),
        (
            "the same root twice is two places",
            '[ "$known" != "${1%/}/epmd" ] || return 0',
            "true",
            f"{_INSTALL}: ways_to_name_a_root",
        ),
        (
            "an option takes the next option for its value",
            '"" | -*) usage_error',
            '"") usage_error',
            f"{_INSTALL}: wrong_usage",
        ),
        (
            "what was put there stays if a later step fails",
            'on_failure rm -rf -- "$library/$content"',
            "true",
            f"{_INSTALL}: failure_of_any_step and fresh",
        ),
        (
            "two calls at once do not wait for each other",
            'flock "$lock" || die "$1: cannot be locked"',
            "true",
            f"{_INSTALL}: two_at_once",
        ),
        (
            "something is put into a folder that is not locked",
            '[ "$1" -ef "/dev/fd/$2" ]',
            "true",
            f"{_INSTALL}: replaced_meanwhile and list",
        ),
        (
            "an upgrade removes what processes may just be starting from",
            'current | "$content" | "$1") continue',
            'current | "$content") continue',
            f"{_INSTALL}: old_folders",
        ),
    ],
}

FAULTS = [
    Fault(breaks, path, old, new, tests) for path, rows in _TABLES.items() for breaks, old, new, tests in rows
]

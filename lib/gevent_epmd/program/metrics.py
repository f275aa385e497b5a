"""Tells monitoring systems how the epmd fares: in a file for Prometheus, and on SIGUSR1 in a log line.

The file is for the textfile collector of node_exporter, which adds it to its own metrics. No metric has a
name of node_exporter's own, such as process_open_fds, and each has the port as a label: the collector rejects
metrics of two files that differ in nothing.

Invariants:
- The file is written before anybody is told that this epmd serves, and by the user that serves: a process
  that has given up root's rights must be able to write it again.
- Afterwards, a file that cannot be written does not end the epmd. The log tells it once.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import errno
import os
import resource
import time

from .. import __version__
from ..records import NamedTuple
from ..server.events import KINDS
from .process.files import OwnFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..server.mapper import Mapper
    from .options import Given

#: The time between two writes, in seconds.
EVERY = 15
#: How many connections to close for one write if no descriptor is left: it needs one of the folder and two of
#: the file.
_MOST_CLOSED = 3
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_NOT_PERMITTED = (errno.EACCES, errno.EPERM)
_UNLIMITED = float("inf")


class Metric(NamedTuple):
    """A metric. `values` has a number for each value of `label`, or one for "" if there is no label."""

    name: str
    kind: str
    text: str
    values: dict[str, float]
    label: str = ""


def _gauge(name: str, text: str, value: float | None) -> Metric:
    """Return a metric with one value. None means that there is no limit."""
    return Metric(name, "gauge", text, {"": _UNLIMITED if value is None else value})


def _counter(name: str, text: str, values: dict[str, float], label: str = "") -> Metric:
    return Metric(f"{name}_total", "counter", text, values, label)


def gauges(mapper: Mapper) -> Iterator[Metric]:
    """Yield how the mapper is at this moment."""
    yield _gauge("nodes", "Registered nodes.", len(mapper.registry))
    yield _gauge("nodes_max", "Nodes that the descriptor limit permits.", mapper.registry.limit)
    yield _gauge("connections_waiting", "Connections that are not a node's.", len(mapper.unregistered))
    yield _gauge("unread_bytes", "Bytes of replies that peers have not read yet.", mapper.unsent.total)
    used = _open_descriptors()
    if used is not None:
        yield _gauge("open_fds", "Open file descriptors.", used)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = None if soft == resource.RLIM_INFINITY else soft
    yield _gauge("max_fds", "Limit of open file descriptors.", limit)


def _open_descriptors() -> int | None:
    """Return how many descriptors are open, or None if the system does not tell."""
    try:
        # The size is the number since Linux 6.2, and 0 before. A listing contains its own descriptor.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return None


def counters(mapper: Mapper) -> Iterator[Metric]:
    """Yield what has happened since the start."""
    counts = mapper.events.counts
    requests: dict[str, float] = {kind: counts.requests[tag] for tag, kind in KINDS.items()}
    requests["port2"] += mapper.looked_up
    requests["names"] += mapper.listed
    closed: dict[str, float] = {
        "not_allowed": counts.barred,
        "timed_out": counts.timed_out,
        "crowded_out": counts.crowded_out,
        "unread": counts.unread,
    }
    yield _counter("requests", "Requests, including those that were denied.", requests, "kind")
    yield _counter("registrations_refused", "Registrations that were refused.", {"": counts.refused})
    yield _counter("requests_denied", "Requests that were not permitted.", {"": counts.denied})
    yield _counter("requests_malformed", "Requests that were invalid or incomplete.", {"": counts.malformed})
    yield _counter("connections_closed", "Connections that this epmd has closed.", closed, "reason")


def exposition(port: int, metrics: Iterable[Metric]) -> bytes:
    """Return the metrics in Prometheus's text format."""
    lines = []
    for metric in metrics:
        lines.append(f"# HELP epmd_{metric.name} {metric.text}")
        lines.append(f"# TYPE epmd_{metric.name} {metric.kind}")
        for which, number in metric.values.items():
            label = f',{metric.label}="{which}"' if metric.label else ""
            lines.append(f'epmd_{metric.name}{{port="{port}"{label}}} {_shown(number)}')
    return "\n".join([*lines, ""]).encode()


def _numbers(metrics: Iterable[Metric]) -> Iterator[tuple[str, str]]:
    """Yield the same numbers, with names for a log line."""
    yield "version", __version__
    for metric in metrics:
        name = metric.name.removesuffix("_total")
        for which, number in metric.values.items():
            yield f"{name}_{which}" if which else name, _shown(number)


def _shown(number: float) -> str:
    return "+Inf" if number == _UNLIMITED else str(int(number))


class Reporter:
    """Reports on a mapper. `given` is the file to write, or empty for none."""

    def __init__(self, mapper: Mapper, given: Given) -> None:
        self._mapper = mapper
        self._where, self._path = given
        self._file = OwnFile(self._path) if self._path else None
        self._began = int(time.time())
        self._timer: Any = None
        self._failure = ""
        #: Whether anybody was told that this epmd serves.
        self.serves = False

    def start(self) -> None:
        """Write the file now, and then every EVERY seconds. Raises OSError, which names the option."""
        if self._file is not None:
            self._write(self._file)
            self._timer = self._mapper.loop.timer(EVERY, EVERY)
            self._timer.start(self._write_again)

    def report(self) -> None:
        """Write the file at once, and log the numbers. Call from the hub only."""
        self._write_again()
        self._mapper.events.numbers(_numbers(self._now()))

    def finish(self) -> None:
        """Write the file for the last time, or remove it if this epmd has never served."""
        if self._timer is not None:
            self._timer.close()
        try:
            if self._file is not None and self.serves:
                self._write(self._file, up=0)
            elif self._file is not None:
                self._file.remove()
        except OSError as error:
            self._mapper.events.file_failed(str(error))

    def _write_again(self) -> None:
        failure = ""
        try:
            if self._file is not None:
                self._write(self._file, most_closed=_MOST_CLOSED)
        except OSError as error:
            failure = str(error)
        if failure not in ("", self._failure):
            self._mapper.events.file_failed(failure)
        self._failure = failure

    def _write(self, file: OwnFile, *, up: int = 1, most_closed: int = 0) -> None:
        """Write the file. If no descriptor is left, close up to `most_closed` connections."""
        metrics = (
            _gauge("up", "1 while the epmd serves, and 0 after its end.", up),
            Metric("build_info", "gauge", "The version of the epmd.", {__version__: 1}, "version"),
            *self._now(),
        )
        try:
            file.write(exposition(self._mapper.port, metrics))
        except OSError as error:
            if most_closed and error.errno in _NO_DESCRIPTOR and self._mapper.make_room():
                self._write(file, up=up, most_closed=most_closed - 1)
                return
            who = f" as user {os.geteuid()}" if error.errno in _NOT_PERMITTED else ""
            raise OSError(f"{self._where}: cannot write {self._path}{who}: {error.strerror}") from None

    def _now(self) -> Iterator[Metric]:
        yield _gauge("start_time_seconds", "When the epmd started, in seconds since 1970.", self._began)
        yield from gauges(self._mapper)
        yield from counters(self._mapper)

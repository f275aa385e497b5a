"""What tests cost: the processor time of each module, its own and that of the processes it waited for."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator

import pytest

#: So many modules are printed at the end.
_SHOWN = 10


def _spent() -> float:
    """The seconds of processor time until now."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Cost:
    """A plugin: prints the dearest modules. A daemon that a test leaves to process 1 is not counted."""

    def __init__(self) -> None:
        self._modules: Counter[str] = Counter()
        self._before = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        self._before = _spent()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report = yield
        now = _spent()
        # A worker of xdist sends the report with it.
        report.cpu, self._before = now - self._before, now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._modules[report.nodeid.partition("::")[0]] += getattr(report, "cpu", 0.0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        dearest = self._modules.most_common(_SHOWN)
        if len(dearest) > 1:
            total = sum(self._modules.values())
            terminalreporter.section(f"processor time: {total:.0f} s, of them")
            for module, seconds in dearest:
                terminalreporter.write_line(f"{seconds:6.1f} s  {module}")

"""Erlang nodes that evaluate what a test tells them, and what Erlang's tools for tests say."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile

from support.paths import ROOT
from support.patience import PATIENCE, wait_until
from support.programs import clean_environment, content, real

#: Where scripts/test unpacks Common Test and rebar3, if the system does not have them.
_UNPACKED = ROOT / ".scratch" / "common-test" / "usr"

#: Half of what a node takes: by default each has threads that wait for work in a loop, for each processor.
FRUGAL = {"ERL_AFLAGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"}
#: Reads an expression a line, and says what it is worth.
LOOP = """
F = fun F() -> case io:get_line('') of
    eof -> halt();
    Line ->
        {ok, Tokens, _} = erl_scan:string(Line),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Expressions, []),
        io:format("=> ~0p~n", [Value]),
        F()
end end, io:format("=> up~n"), F().
"""


class Node:
    """An Erlang node that evaluates what it is told."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        # A file: an epmd that the node starts could hold a pipe open.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the node
        self._read = 0
        self._process = subprocess.Popen(
            [*command, "-noshell", "-eval", LOOP],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=clean_environment(**FRUGAL | environ),
            start_new_session=True,
            text=True,
        )
        try:
            assert self._answer() == "up"
        except BaseException:
            self.kill()
            raise

    def eval(self, expression: str) -> str:
        self._process.stdin.write(f"{expression}.\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        wait_until(lambda: self._found() or self._process.poll() is not None, "the node to answer")
        found = self._found()
        assert found, f"the node ended: {content(self._output)[self._read :]}"
        self._read += found.end()
        return found[1].decode().strip()

    def _found(self) -> re.Match[bytes] | None:
        """The first answer that was not read yet."""
        return re.search(rb"^=> (.*)\n", content(self._output)[self._read :], re.MULTILINE)

    def halt(self) -> None:
        self._process.stdin.write("halt().\n")
        self._process.stdin.flush()
        self._process.wait(PATIENCE)
        self._close()

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._output.close()


def exunit_passed(tests: int, said: bytes) -> bool:
    """Whether ExUnit says that so many tests passed, in the words of Elixir up to 1.19 or from 1.20 on."""
    last = rb"%d tests?, 0 failures|Result: %d passed" % (tests, tests)
    return re.search(rb"^(%s)$" % last, said, re.MULTILINE) is not None


def common_test(path: str) -> dict[str, str]:
    """The environment in which ct_run and rebar3 are found, behind this path."""
    if not (shutil.which("ct_run") and shutil.which("rebar3")):
        real(str(_UNPACKED / "bin" / "rebar3"))
        return {"PATH": f"{path}:{_UNPACKED / 'bin'}", "ERL_LIBS": str(_UNPACKED / "lib" / "erlang" / "lib")}
    return {"PATH": path}

"""Who waits for it is killed while it starts: nothing is left.

The executable is a launcher and its child, and nobody ends the child of a launcher that was killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gevent_epmd.client import TIMEOUT
from soak.play import Figures, Form, Scale, scene
from support.patience import PATIENCE, wait_until
from support.ports import ReservedPort, answers
from support.procfs import processes_at
from support.programs import clean_environment
from support.strangers import Mute

#: The kills are spread over so long, in seconds from the start.
_START = 0.3
_NOBODY = 65534
#: How many calls wait at once: more would be late on a machine of two cores.
_AT_ONCE = 4
_CALLS: tuple[tuple[str, ...], ...] = ((), ("-daemon",), ("-started",))


@scene("SIGKILL to its launcher while it starts, at 200 moments, as root and as an ordinary user")
def orphans(form: Form, scale: Scale) -> Figures:
    kills = scale.of(200, 5)
    # From source there is no launcher, and Python may be where its owner alone may read it.
    users = [None, _NOBODY] if os.getuid() == 0 and len(form.command) == 1 else [None]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        command = for_everybody(form, folder)
        tries = [
            Try(command, call, user, _START * number / kills, Path(folder))
            for user in users
            for number in range(kills)
            for call in _CALLS
        ]
        took = [each.kill() for each in tries]
    slowest = max(took)
    assert slowest < scale.promised(1), f"one was there {slowest:.1f} s after"
    daemons = sum(each.had_started for each in tries)
    gone = {"gone after s": round(slowest, 2)}
    return {"kills": len(tries), "left": 0, "daemons that had started": daemons} | gone


def for_everybody(form: Form, folder: str) -> list[str]:
    """The command line; an executable is copied, with its folder, to where everybody may read it."""
    program, *arguments = form.command
    if arguments:
        return list(form.command)
    home = Path(program).parent
    if (home / "_internal").is_dir():
        return [str(shutil.copytree(home, Path(folder) / home.name) / Path(program).name)]
    return [shutil.copy(program, folder)]


@scene(
    "SIGKILL to a call that waits for a mute peer, after up to 2 s, 300 times: to its launcher, or to both"
)
def killed_calls(form: Form, scale: Scale) -> Figures:
    kills = scale.of(300, 12)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_AT_ONCE) as pool:
        tries = [(2 * number / kills, number % 2 == 0) for number in range(kills)]
        slowest = max(pool.map(lambda each: _kill_a_call(form, folder, each[0], both=each[1]), tries))
        left = [str(path) for path in Path(folder).rglob("*") if not path.is_dir()]
        assert not left, left
        # It would end by itself when it has waited for long enough.
        assert slowest < scale.promised(TIMEOUT / 2), f"one was there {slowest:.1f} s after"
        empty = len(list(Path(folder).iterdir()))
        return {"kills": kills, "left": 0, "empty folders": empty, "gone after s": round(slowest, 2)}


def _kill_a_call(form: Form, folder: str, seconds: float, *, both: bool) -> float:
    """Kill a `-started` so many seconds after it has connected; gives for how many seconds there was still a
    process of it."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(PATIENCE)
        port = mute.getsockname()[1]
        process = subprocess.Popen(
            [*form.command, "-port", str(port), "-started"],
            env=clean_environment(TMPDIR=folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with mute.accept()[0]:
            time.sleep(seconds)  # the moment is what is tried
            (os.killpg if both else os.kill)(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            killed = time.monotonic()
            wait_until(lambda: not processes_at(port), "the call to end")
            return time.monotonic() - killed


class Try:
    """One start that is killed after so many seconds."""

    had_started = False

    def __init__(
        self, command: list[str], call: tuple[str, ...], user: int | None, moment: float, folder: Path
    ) -> None:
        self._command, self._call, self._moment, self._folder = command, call, moment, folder
        self._user = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        self._port_file = folder / "port"

    def kill(self) -> float:
        """For how many seconds there was still a process of it; none if it had started a daemon before."""
        # Somebody mute, so that a call waits; or nobody, so that it serves.
        place = Mute() if self._call == ("-started",) else ReservedPort()
        with contextlib.closing(place):
            self._port = place.port if isinstance(place, Mute) else place.number
            try:
                return self._start_and_kill()
            finally:
                self._end_what_is_left()

    def _start_and_kill(self) -> float:
        # Written when a daemon serves, and before its caller is told so.
        told = ["-port_file", str(self._port_file)] if "-daemon" in self._call else []
        process = subprocess.Popen(
            [*self._command, "-port", str(self._port), *told, *self._call],
            env=clean_environment(TMPDIR=str(self._folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._user,
        )
        time.sleep(self._moment)  # the moment is what is tried
        process.kill()
        process.wait()  # on a busy machine it runs on for a moment
        killed, killed_at = time.monotonic(), time.time()
        while left := processes_at(self._port):
            waited = time.monotonic() - killed
            if waited > 1 and self._was_told_before(killed_at):
                self.had_started = True
                return 0.0
            assert waited < PATIENCE, f"{' '.join(self._call)}, killed after {self._moment} s: {left} left"
            # Each look reads the command lines of all processes.
            time.sleep(0.01 + waited / 10)
        assert not self._port_file.exists(), "the port file is left"
        return time.monotonic() - killed

    def _was_told_before(self, moment: float) -> bool:
        try:
            return self._port_file.stat().st_mtime < moment and answers(self._port)
        except FileNotFoundError:
            return False

    def _end_what_is_left(self) -> None:
        for pid in processes_at(self._port):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not processes_at(self._port), "what was left to end")

"""tests/slow, which plays a slow machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.paths import TESTS
from support.programs import run

SLOW = str(TESTS / "slow")


@pytest.mark.parametrize("line", [[], ["25"], ["0", "true"], ["100", "true"], ["x", "true"]], ids=" ".join)
def test_wrong_usage(line: list[str]) -> None:
    done = run([SLOW, *line])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"tests/slow: usage: tests/slow PERCENT COMMAND...\n"


def test_command_is_in_a_group_of_its_own_which_is_gone_afterwards() -> None:
    done = run([SLOW, "25", "sh", "-c", "cat /proc/self/cgroup; exit 7"])
    if done.stderr:
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1
        pytest.skip(done.stderr.decode().strip())
    assert done.returncode == 7
    words = done.stdout.decode().replace("/", "\n").splitlines()
    (group,) = {word for word in words if word.startswith("slow-")}
    assert not any(Path(top, group).exists() for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu"))

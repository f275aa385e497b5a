"""Plant faults into a copy of the program, one at a time, and say whether the tests catch them.

usage: plant [options]

A fault is caught if the tests that are listed with it fail, or hang. Without any fault they must pass, which
is looked at first. Status 1 if a fault is not caught. The last column has the test that failed, and why: a
fault may be caught for a wrong reason.

options:
    --only PATTERN   Only the faults whose file or description matches this regular expression.
    --list           Say which faults there are.
    -j N             Plant so many at a time [default: 1].
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from docopt import docopt

from plant.fault import Fault
from plant.faults import FAULTS
from plant.tree import Outcome, Tree
from support.asked import number
from support.paths import ROOT
from support.patience import LONG, PATIENCE

CAUGHT, HANGS, NOT_CAUGHT, SKIPPED, BROKEN = "caught", "caught (hangs)", "NOT CAUGHT", "SKIPPED", "BROKEN"

# The statuses of pytest.
_PASSED, _FAILED = 0, 1

_LONGEST_CELL = 150


def main() -> int:
    asked = docopt(__doc__)
    pattern = re.compile(asked["--only"] or "")
    chosen = [fault for fault in FAULTS if pattern.search(f"{fault.where}: {fault.breaks}")]
    if not chosen:
        sys.exit(f'plant: --only: no fault matches "{asked["--only"]}"')
    if asked["--list"]:
        print("\n".join(f"{fault.where}: {fault.breaks} ({fault.tests})" for fault in chosen))
        return 0
    problems = [f"{fault.where}: {fault.breaks}: {why}" for fault in chosen if (why := fault.problem(ROOT))]
    if problems:
        sys.exit("\n".join(["plant: tests/plant/faults.py has to follow the code:", *problems]))
    at_once = number("plant: -j", asked["-j"], int)
    if at_once < 1:
        sys.exit("plant: -j: at least 1")
    # Who ends it gets the folder removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("plant: ended"))
    return int(not plant(chosen, at_once))


def plant(faults: list[Fault], at_once: int) -> bool:
    """Plant each of them and print the table; whether all were caught."""
    folder = ROOT / ".scratch" / "plant" / str(os.getpid())
    try:
        trees = [Tree(folder / str(place)) for place in range(at_once)]
        for tree in trees:
            tree.check()
        look_without_fault(trees[0], faults)
        verdicts = table(faults, trees)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    caught = verdicts[CAUGHT] + verdicts[HANGS]
    print(f"{len(faults)} planted, {caught} caught")
    return caught == len(faults)


def table(faults: list[Fault], trees: list[Tree]) -> Counter[str]:
    """Plant them in the trees and print a row of each; how many got which verdict."""
    print("| file | what breaks | verdict | s | by |\n|---|---|---|---|---|", flush=True)
    rows = Rows(trees)
    with ThreadPoolExecutor(len(trees)) as pool:
        try:
            return Counter(pool.map(rows.of, faults))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def look_without_fault(tree: Tree, faults: Iterable[Fault]) -> None:
    """Exit with what failed where nothing is wrong."""
    expressions: dict[str, set[str]] = {}
    for fault in faults:
        expressions.setdefault(fault.tests_path, set()).add(fault.expression)
    for path, wanted in expressions.items():
        union = "" if "" in wanted else " or ".join(f"({expression})" for expression in sorted(wanted))
        outcome = tree.test(path, union, LONG)
        if outcome.status != _PASSED:
            sys.exit(f"plant: without any fault, {path} -k '{union}' does not pass:\n{outcome.said}")


class Rows:
    """The rows of the table, each played in a tree that is free."""

    def __init__(self, trees: list[Tree]) -> None:
        self._printing = threading.Lock()
        self._free: SimpleQueue[Tree] = SimpleQueue()
        for tree in trees:
            self._free.put(tree)

    def of(self, fault: Fault) -> str:
        """Plant the fault, print its row, and return the verdict."""
        start = time.monotonic()
        tree = self._free.get()
        try:
            with tree.with_fault(fault):
                outcome = tree.test(fault.tests_path, fault.expression, PATIENCE)
        finally:
            self._free.put(tree)
        found = verdict(outcome)
        with self._printing:
            took = time.monotonic() - start
            print(
                f"| {fault.where} | {fault.breaks} | {found} | {took:.1f} | {first_failure(outcome.said)} |",
                flush=True,
            )
            if found not in (CAUGHT, HANGS):
                print(f"{fault.tests}\n{outcome.said}", file=sys.stderr, flush=True)
        return found


def first_failure(said: str) -> str:
    """The name of the first test that failed, and the first line of its error, as a cell of the table.

    Of several errors it is the last one, which the others have led to. Of the traceback of a scene that was
    played in another process, it is the line that failed.
    """
    test = re.findall(r"^(?:FAILED|ERROR) .*?::(\S+)", said, re.MULTILINE)[:1]
    error = re.findall(r"^(?!E ).*\nE +(.+)$", said, re.MULTILINE)[-1:]
    line = re.findall(r"^E +File .+\nE +(.+)$", said, re.MULTILINE)[-1:]
    return ": ".join(test + (line or error))[:_LONGEST_CELL].replace("|", "\\|")


def verdict(outcome: Outcome) -> str:
    """What the fault is worth: BROKEN if the tests cannot even be collected, SKIPPED if none of them ran."""
    if outcome.status is None:
        return HANGS
    # A fault may kill the process that runs the tests: an epmd can be a part of it.
    if outcome.status == _FAILED or outcome.status == -signal.SIGKILL:
        return CAUGHT
    if outcome.status == _PASSED:
        return NOT_CAUGHT if re.search(r"\b[0-9]+ passed\b", outcome.said) else SKIPPED
    return BROKEN


if __name__ == "__main__":
    sys.exit(main())

"""Which forms of an epmd a test runs against."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

import pytest

from support import differences
from support.forms import FORMS, Built, C, Folder, InProcess, Server, Source


def forms(
    *only: type[Server],
    but_not_c: str = "",
    processes_only: bool = False,
    launcher: bool = True,
    once: bool = False,
    c: bool = True,
    at: str = "form",
) -> pytest.MarkDecorator:
    """Run a test against these forms; without any, against all.

    :param but_not_c: the scene of the deliberate difference for which C must fail the test, if its version is
        one that differs there: if C passes then, the list is wrong
    :param processes_only: leave out `InProcess`
    :param launcher: with False, leave out `Built`, which serves as `Folder` does: its launcher takes part
        only in how it starts and ends
    :param once: of ours, only `InProcess`, or with `processes_only` only `Source`: each has the same code
    :param c: with False, leave out C's
    :param at: the parameter that gets the form; `command` and `ours` get the beginning of its command line
    """
    unwanted = {
        InProcess: processes_only,
        Source: once and not processes_only,
        Folder: once,
        Built: once or not launcher,
        C: not c,
    }
    wanted = only or [form for form in FORMS if not unwanted.get(form)]
    differs = [pytest.mark.xfail(reason=but_not_c, strict=True)] if _c_differs(but_not_c) else []
    parameters = [pytest.param(form, id=form.__name__, marks=differs if form.is_c else []) for form in wanted]
    return pytest.mark.parametrize(at, parameters, indirect=at != "form")


def by_form(
    name: str, values: Mapping[type[Server], Sequence[object]], *, at: str = "form"
) -> pytest.MarkDecorator:
    """Run a test against each form with the values of its own: with all where they matter, else with a few.

    :param name: the parameter that gets the value
    :param at: as that of `forms`
    """
    parameters = [
        pytest.param(form, value, id=f"{form.__name__}-{value}")
        for form, chosen in values.items()
        for value in chosen
    ]
    return pytest.mark.parametrize((at, name), parameters, indirect=[at] if at != "form" else False)


def _c_differs(scene: str) -> bool:
    assert not scene or differences.is_listed(scene), f"not in support/differences.py: {scene}"
    # Where the program is missing, its tests are skipped.
    return bool(scene) and shutil.which(C.command[0]) is not None and C.differs_in(scene)

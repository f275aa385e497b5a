"""`epmd -check` where it was wrong: real processes, and its advice is followed."""

from __future__ import annotations

import pytest

from support import check_cures, check_situations
from support.check_situations import BOX
from support.checking import run_in_a_box
from support.forms import Source
from support.neighbour import THERE_V4
from support.scenes import OTHER_V4

DEBIAN, OTHER = f"127.0.1.1 {BOX}", f"{OTHER_V4} {BOX}"
#: A situation, and what the host's hosts file has beside localhost.
SITUATIONS = [
    ("node_of_another_host", OTHER),
    ("epmd_of_a_container", OTHER),
    ("node_behind_a_tunnel", OTHER),
    ("dead_node_on_a_dual_stack_socket", OTHER),
    ("stopped_node", OTHER),
    ("port_of_a_node_is_another_programs", OTHER),
    ("who_has_the_name", f"{OTHER}\n{THERE_V4} there"),
    ("old_node", OTHER),
    ("sockets_of_systemd", DEBIAN),
    ("options_and_sockets_disagree", DEBIAN),
    ("open_to_others", DEBIAN),
    ("open_to_others_where_nodes_look", OTHER),
    ("everybody_is_allowed", DEBIAN),
    ("name_is_not_served", OTHER),
    ("stranger_on_another_address", DEBIAN),
    ("busy_epmd", DEBIAN),
    ("culprit_has_the_port", DEBIAN),
    ("firewall_on_loopback", DEBIAN),
    ("epmd_at_another_port", DEBIAN),
    ("names_of_cs_program", DEBIAN),
    ("units_of_systemd", DEBIAN),
    ("erlang_was_upgraded", DEBIAN),
    ("full_epmd", DEBIAN),
    ("canonical_names_without_end", ""),
    ("many_own_addresses", DEBIAN),
    ("many_silent_addresses", DEBIAN),
]
#: The same, where a remedy is followed.
CURES = [
    ("cluster", OTHER),
    ("options_that_open", DEBIAN),
    ("forwarded_port", DEBIAN),
    ("firewall", DEBIAN),
    ("names_of_the_host", DEBIAN),
    ("nodes_that_are_mended", DEBIAN),
    ("epmd_that_is_mended", DEBIAN),
    ("epmd_that_hangs", DEBIAN),
    ("several_epmds", DEBIAN),
    ("full_one_is_given_more", DEBIAN),
]


@pytest.mark.slow
@pytest.mark.parametrize(("scene", "hosts"), SITUATIONS, ids=[scene for scene, _ in SITUATIONS])
def test_situation(scene: str, hosts: str) -> None:
    run_in_a_box("support.check_situations", getattr(check_situations, scene), Source, hosts)


@pytest.mark.slow
@pytest.mark.parametrize(("scene", "hosts"), CURES, ids=[scene for scene, _ in CURES])
def test_cure(scene: str, hosts: str) -> None:
    run_in_a_box("support.check_cures", getattr(check_cures, scene), Source, hosts)


@pytest.mark.parametrize(("module", "played"), [(check_situations, SITUATIONS), (check_cures, CURES)])
def test_every_scene_is_played(module, played: list[tuple[str, str]]) -> None:
    scenes = {name for name, value in vars(module).items() if is_scene(value, module.__name__)}
    assert scenes == {scene for scene, _ in played}


def is_scene(value: object, module: str) -> bool:
    code = getattr(value, "__code__", None)
    is_here = getattr(value, "__module__", "") == module
    return is_here and code is not None and code.co_varnames[: code.co_argcount] == ("form",)

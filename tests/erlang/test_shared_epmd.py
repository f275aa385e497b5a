"""Real nodes in network namespaces of their own, which share the epmd of another one."""

from __future__ import annotations

import pytest

from support.forms import Folder
from support.scenes import (
    nodes_of_two_containers_are_forwarded,
    nodes_of_two_containers_share_an_epmd,
    run_scene,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene", [nodes_of_two_containers_share_an_epmd, nodes_of_two_containers_are_forwarded]
)
def test_two_containers(scene) -> None:
    run_scene(scene, Folder)

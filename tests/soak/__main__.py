"""Play what kills, blocks or confuses an epmd, and say how this one took it.

usage: soak [options] [SCENE...]
       soak --list

All scenes are played if none is named. Status 1 if one fails.

options:
    --ours FORM      source, built or folder [default: source].
    --against PATH   Play with this C epmd in the place of ours; a failure is only recorded: status 0.
    --short          What the tests play: less of everything, a few seconds each, and no time is judged.
    --list           Say which scenes there are.
"""

from __future__ import annotations

import resource
import signal
import sys
import time
import traceback

from docopt import docopt

import soak.families  # noqa: F401 - they put themselves into the list
from soak.play import SCENES, Scale, play
from support.asked import choice, program
from support.forms import PROGRAMS
from support.programs import heed_signals


def main() -> int:
    asked = docopt(__doc__)
    if asked["--list"]:
        print("\n".join(f"{name:24} {scene.title}" for name, scene in SCENES.items()))
        return 0
    scenes = [choice("soak", name, SCENES) for name in asked["SCENE"]] or list(SCENES)
    if asked["--against"]:
        which = program("soak: --against", asked["--against"])
    else:
        which = choice("soak: --ours", asked["--ours"], PROGRAMS)
    # The crowds of some scenes are large.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    heed_signals()
    # Who ends it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: ended"))
    scale = Scale(asked["--short"])
    print("| scene | figures | verdict | s |\n|---|---|---|---|", flush=True)
    failed = [show(name, which, scale) for name in scenes]
    return int(any(failed) and not asked["--against"])


def show(name: str, which: str, scale: Scale) -> bool:
    """Play one scene and print its row; whether it failed."""
    start = time.monotonic()
    try:
        figures = "; ".join(f"{what} {value}" for what, value in play(name, which, scale).items())
        verdict = "kept"
    except Exception as error:  # noqa: BLE001 - whatever a scene runs into is its result
        figures, verdict = " ".join(f"{type(error).__name__}: {error}".split())[:300], "FAILED"
        if not isinstance(error, (AssertionError, OSError)):
            traceback.print_exc()
    print(f"| {SCENES[name].title} | {figures} | {verdict} | {time.monotonic() - start:.0f} |", flush=True)
    return verdict != "kept"


if __name__ == "__main__":
    sys.exit(main())

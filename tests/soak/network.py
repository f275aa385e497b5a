"""Who may do what from where."""

from __future__ import annotations

from soak.play import Figures, Form, Scale, scene
from support.scenes import strangers_may_only_look_up


@scene("strangers behind a veth pair register, dump, kill, stop; and look up", network=True)
def strangers(form: Form, scale: Scale) -> Figures:
    strangers_may_only_look_up(form)
    return {"closed without a reply": "register, dump, kill, stop", "answered": "look-up, names"}

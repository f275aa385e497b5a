"""The C epmd and ours under the same load in turn: `scripts/bench`.

`load` asks, in a process of its own; `held` keeps nodes registered, in another; `cells` starts the servers
and measures; `report` makes the page and its chart.
"""

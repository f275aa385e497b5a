"""The C epmd and ours under the same load in turn: `scripts/bench`.

`load` asks with a C program, `erlang` with Erlang's own client and with nodes that start, each in processes
of their own; `held` keeps nodes registered, in another; `cells` starts the servers and measures; `report`
makes the page and its chart.
"""

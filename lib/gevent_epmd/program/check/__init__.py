"""`epmd -check`: `look` gathers what there is to see, `findings` says what is wrong with it, `report` prints
it.

Only `calls` imports it.
"""

"""What kills, blocks or confuses an epmd: scenes for `scripts/soak`, and in short for the tests.

`play` has the list of scenes and how one is played; each other module is a family of them.
"""

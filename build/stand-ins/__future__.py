"""Replaces __future__ in the executables: a module imports it only to say how it was to be compiled.

The original creates an object for each feature, which would be 2 % of the time of `epmd -names`.
"""

annotations = absolute_import = division = print_function = unicode_literals = None

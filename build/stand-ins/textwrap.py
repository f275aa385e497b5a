"""In the executables this is textwrap, with which gevent lays out the texts of its settings for people.

The real one imports re, which nothing else here needs: together 2 ms until an epmd serves.
"""


def dedent(text):
    return text

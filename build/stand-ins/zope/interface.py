"""In the executable this is zope.interface, with which gevent says what its loops are meant to do.

The real one is a quarter of the time that importing gevent's server takes, 6 ms until an epmd serves.
"""


class Interface:
    """What an interface of gevent's derives from."""


class Attribute:
    """A member of an interface, and its documentation."""

    def __init__(self, *documentation):
        pass


def classImplements(*_):  # noqa: N802 - the name is zope's
    """Nobody asks who implements what."""

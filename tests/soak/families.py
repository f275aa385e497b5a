"""Every family of scenes, imported for the list: in this order they are played."""

from soak import descriptors, slow, storms, comings, restart, takeovers, network, clock  # noqa: F401, I001
from soak import ending, orphans, logs, mixed, fuzz  # noqa: F401

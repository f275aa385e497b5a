"""What scripts/try-package does: the Debian package in roots of its own, with a suite's services."""

"""Files that tell others something for as long as this process lives, as a port file does."""

from __future__ import annotations

import os


class OwnFile:
    """A file at `path` that appears whole, in place of whatever is there, and that `remove` takes away.

    It is written under a name that nobody can guess and that must be new, and renamed then: in a folder where
    others may write, a link that waits under a known name would have us overwrite what the link names.  The
    descriptor stays open until `remove`: as long as it is, no other file gets this one's inode.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def write(self, content: bytes) -> None:
        """Put the file there, with mode 0644 minus the umask.  To be called once.  Raises OSError, and leaves
        nothing behind then."""
        aside = os.path.join(os.path.dirname(self._path), f".epmd-{os.urandom(16).hex()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            os.write(descriptor, content)
            os.replace(aside, self._path)
        except BaseException:
            os.close(descriptor)
            _unlink(aside)
            raise
        self._descriptor = descriptor

    def remove(self) -> None:
        """Remove the file, unless it is another one by now, which somebody else has put there.  Raises
        OSError where this process must not; the file is empty then, since a number that is nobody's now may
        be somebody's later."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if self._is_in_place(descriptor):
                _remove(self._path, descriptor)
        finally:
            os.close(descriptor)

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(descriptor))
        except OSError:
            return False  # somebody has removed it


def _remove(path: str, descriptor: int) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # somebody was faster
    except OSError:
        os.ftruncate(descriptor, 0)
        raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # the reason why it was not renamed tells more

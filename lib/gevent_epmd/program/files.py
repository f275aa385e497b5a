"""Files that exist only while this process serves, such as a port file or a pid file.

Invariants: a reader sees the whole content or no file. `remove` never removes another process's file. C's
epmd has no counterpart.
"""

from __future__ import annotations

import os


class OwnFile:
    """A file at `path` that replaces an existing file atomically, and that `remove` deletes.

    The content is written to a new file with an unpredictable name, which is then renamed. With a predictable
    name, another user who may write to the folder could place a symbolic link there, and this process would
    overwrite the link's target. The descriptor stays open until `remove`, because no other file can get the
    same inode while it is open.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def write(self, content: bytes) -> None:
        """Create the file with mode 0644 minus the umask. Call this once.

        Raises OSError, and then leaves no file behind.
        """
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
        """Remove the file, unless another process has replaced it.

        Raises OSError if this process is not permitted to remove it. The file is then truncated, because its
        number might later belong to another process.
        """
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
            return False  # another process has removed it


def _remove(path: str, descriptor: int) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # another process removed it first
    except OSError:
        os.ftruncate(descriptor, 0)
        raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # the error of the rename is raised, which is more useful

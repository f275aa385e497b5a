"""Files that this process writes: those that exist only while it serves, as a pid file, and the metrics.

Root may be asked to write such a file into another user's folder. The invariants hold there too:
- The last part of a path is never followed if it is a symbolic link: the file takes the link's place.
- Root follows only those links in the folder's path that are root's own (`resolved`), and no link at all once
  the path is resolved (`OwnFile.write`).
- A process that has given up root's rights has no descriptor by which it could write to the file.
- A reader sees the whole content or no file. `remove` never removes another process's file.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Enough to look at a file, or to find what is inside a folder, but not to read or write it. Systems without
#: it have nothing that is less than reading.
_PATH: int = getattr(os, "O_PATH", os.O_RDONLY)
_FOLDER = _PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_ROOT = 0
#: As in the kernel.
_MOST_LINKS = 40
#: The path that stands for stdout.
STDOUT = "-"


def resolved(path: str) -> str:
    """Return the absolute path without symbolic links in its folder. The last part stays as it is.

    Raises OSError if the path is relative and the current folder does not exist any more, and, as root, if
    the folder's path leads through a link of another user, who could lead root anywhere.
    """
    folder, name = os.path.split(path)
    start = "/" if folder.startswith("/") else os.getcwd()
    rest = os.path.join(start, folder).split("/")[::-1]
    done, links = "/", 0
    while rest:
        part = rest.pop()
        if part == "..":
            done = os.path.dirname(done)
        elif part not in ("", "."):
            target = _link(os.path.join(done, part))
            if target is None:
                done = os.path.join(done, part)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith("/"):
                done = "/"
            rest += reversed(target.split("/"))
    return os.path.join(done, name)


def _link(path: str) -> str | None:
    """Return the target of a symbolic link, or None for anything else."""
    try:
        if not hasattr(os, "O_PATH"):
            return os.readlink(path)
        descriptor = os.open(path, _PATH | os.O_NOFOLLOW)
    except OSError:
        return None  # whoever opens the folder reports it
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISLNK(status.st_mode):
            return None
        # The root of a user namespace sees files of the host's root as those of another user.
        if os.geteuid() == _ROOT and status.st_uid not in (_ROOT, os.stat("/").st_uid):
            raise PermissionError(errno.EPERM, f"root does not follow the link {path} of another user")
        return os.readlink("", dir_fd=descriptor)
    finally:
        os.close(descriptor)


class OwnFile:
    """A file at `path` that replaces an existing file atomically, and that `remove` deletes.

    The content is written to a new file, which is then renamed. Its name is unpredictable: another user who
    may write to the folder could place a link there. `path` is absolute, and `resolved` if this process is
    root.

    A descriptor of the file stays open until `remove`, because no other file can get the same inode while it
    is open. It is one of O_PATH, by which nobody can write to a file that others trust because it is root's.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._name = os.path.basename(path)
        #: The descriptors of the folder and the file, or nothing.
        self._open: tuple[int, ...] = ()

    def write(self, content: bytes) -> None:
        """Create the file, or replace it by a new one, with mode 0644 minus the umask. Raises OSError.

        Each call looks for the folder anew, which may have been replaced by another one.
        """
        folder = _open_folder(os.path.dirname(self._path))
        try:
            file = _put(folder, self._name, content)
        except BaseException:
            os.close(folder)
            raise
        self._close()
        self._open = folder, file

    def _close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open = ()

    def remove(self) -> None:
        """Remove the file, unless another process has replaced it.

        Raises OSError if this process is not permitted to remove it.
        """
        if not self._open:
            return
        folder, file = self._open
        try:
            if os.path.samestat(os.lstat(self._name, dir_fd=folder), os.fstat(file)):
                os.unlink(self._name, dir_fd=folder)
        except FileNotFoundError:
            pass  # another process removed it first
        finally:
            self._close()


class NumberFile(OwnFile):
    """A file with a number that exists while the mapper serves. Its path may be STDOUT.

    `where` is the option or variable that names the file, for error messages.
    """

    def __init__(self, where: str, path: str, number: int) -> None:
        super().__init__(path)
        self._where = where
        self._text = b"%d\n" % number

    def put(self) -> None:
        """Write the number. Raises OSError, which names the option."""
        try:
            if self._path == STDOUT:
                os.write(1, self._text)
            else:
                self.write(self._text)
        except OSError as error:
            raise OSError(f"{self._where}: cannot write {self._path}: {error.strerror}") from None

    def remove_or_tell(self, tell: Callable[[str], None]) -> None:
        """Remove the file, unless another mapper has replaced it, or `tell` why that is impossible."""
        try:
            self.remove()
        except OSError as error:
            tell(f"{self._where}: cannot remove {self._path}: {error.strerror}")


def _open_folder(path: str) -> int:
    """Return a descriptor of the folder.

    As root, this fails if another user has replaced a part of the path by a link since it was resolved.
    """
    if os.geteuid() != _ROOT:
        return os.open(path, _PATH | os.O_DIRECTORY)
    folder = os.open("/", _FOLDER)
    for part in filter(None, path.split("/")):
        try:
            inner = os.open(part, _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _put(folder: int, name: str, content: bytes) -> int:
    """Put a new file into the place of `name`, and return a descriptor by which nobody can write to it."""
    aside = f".epmd-{os.urandom(16).hex()}"
    writing = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
    file = None
    try:
        if os.write(writing, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file = os.open(aside, _PATH | os.O_NOFOLLOW, dir_fd=folder)
        if not os.path.samestat(os.fstat(file), os.fstat(writing)):
            raise FileExistsError(errno.EEXIST, "another process has replaced the file")
        os.replace(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        if file is not None:
            os.close(file)
        try:
            os.unlink(aside, dir_fd=folder)
        except OSError:
            pass  # the error of the rename is raised, which is more useful
        raise
    finally:
        os.close(writing)
    return file

"""Only one service uses a data folder at a time."""

import fcntl
import os
from pathlib import Path

from backend_gpu.errors import StorageUnavailable


class FolderLock:
    """A lock file held open; the lock ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock, and make its folder where there is none.

        Raises:
            StorageUnavailable: another service has it, or the folder can't be written to.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = locked_file(path)
        except OSError as error:
            raise StorageUnavailable(
                f"the data folder {path.parent} can't be used ({error}): make it writable, or set BACKEND_DATA_DIR"
            ) from error

    def check(self) -> None:
        """See that the file that is locked is still the one with that name; take the one that is there now if not.

        Raises:
            StorageUnavailable: another service has that, or the folder is gone.
        """
        if file_identity(self.path) == identity_of(os.fstat(self._file)):
            return
        try:
            file = locked_file(self.path)
        except OSError as error:
            raise StorageUnavailable(
                f"the data folder {self.path.parent} was removed while the service ran ({error.strerror}): "
                "put it back, or restart the service"
            ) from error
        os.close(self._file)
        self._file = file

    def release(self) -> None:
        """Let another service have it."""
        os.close(self._file)


def locked_file(path: Path) -> int:
    """A descriptor of the file, locked for this process alone.

    Raises:
        OSError: it can't be opened.
        StorageUnavailable: another process has locked it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise StorageUnavailable(
            f"another service uses the data folder {path.parent}: stop it, or set BACKEND_DATA_DIR"
        ) from error
    return file


def identity_of(stat: os.stat_result) -> tuple[int, int]:
    """Device and inode: what a file is, whatever its name."""
    return stat.st_dev, stat.st_ino


def file_identity(path: Path) -> tuple[int, int] | None:
    """Of the file that has a name now; None if there is none that can be seen."""
    try:
        return identity_of(path.stat())
    except OSError:
        return None

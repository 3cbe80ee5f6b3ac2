"""The queue's SQLite file while the service has it open: transactions, and whether it is still the same file."""

import logging
import os
import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backend_gpu.errors import BackendError, StorageUnavailable
from backend_gpu.jobs.folder_lock import FolderLock, file_identity
from backend_gpu.jobs.schema import open_database
from backend_gpu.jobs.storage_errors import FULL_DISK, primary_code, sqlite_errors

logger = logging.getLogger(__name__)

OLDEST_SQLITE = (3, 35)  # the first that knows RETURNING
MAGIC = b"SQLite format 3\0"  # a file begins with it


class Database:
    """One connection for all threads.

    Every method raises StorageUnavailable if the folder can't be read or written; so does a transaction if the file was
    removed or replaced while it was open. On a disk that is full from the start the file is opened as soon as there is
    room.

    Args:
        folder_lock: of the file's folder; checked before each commit, like the file.
    """

    def __init__(self, path: Path, folder_lock: FolderLock | None = None) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise BackendError(
                f"this Python's SQLite is {sqlite3.sqlite_version}, and the queue needs 3.35 or newer: "
                "use another Python (BASE_PYTHON=… make run, after make clean)"
            )
        self.path, self._folder_lock = path, folder_lock
        self.lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None
        self._is_closed = False
        self._files: dict[Path, tuple[int, int] | None] = {}  # device and inode of what was opened
        self._seen_bytes = 0  # the length of the file
        self._watched: tuple[int, int] | None = None  # descriptors of the file and its -shm, open as long as SQLite's
        with sqlite_errors(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._open()
            except OSError as error:
                raise StorageUnavailable(
                    f"the data folder {path.parent} can't be used ({error}): make it writable, or set BACKEND_DATA_DIR"
                ) from error
            except sqlite3.OperationalError as error:
                if primary_code(error) not in FULL_DISK:
                    raise
                logger.warning("the queue waits for room on the disk", extra={"reason": str(error)})

    def close(self) -> None:
        """Close the file; nothing can be read or written any more."""
        with self.lock:
            self._is_closed = True
            if self._opened:
                self._opened.close()
            for descriptor in self._watched or ():
                os.close(descriptor)
            self._watched = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, opened now if there was no room at the start."""
        if self._is_closed:
            raise StorageUnavailable("the service stops and has closed its queue: try again when it has started")
        return self._opened or self._open()

    def read(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """All rows that a statement selects."""
        with sqlite_errors(self.path), self.lock:
            try:
                return self.connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError:
                self.check_files()  # if that is why, that is the error
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it or nothing."""
        with sqlite_errors(self.path), self.lock:
            self.check_files()
            if self.connection.in_transaction:  # one whose ROLLBACK failed, too
                self.connection.execute("ROLLBACK")
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.check_files()  # it may have happened meanwhile
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def check_files(self) -> None:
        """Compare what has the files' names now with what was opened: else the next start would lose jobs.

        Raises:
            StorageUnavailable: a file was removed, replaced or cut short, or another service has the folder.
        """
        with self.lock:
            for path, opened in self._files.items():
                if file_identity(path) != opened:
                    raise StorageUnavailable(
                        f"the queue's file {path} was removed or replaced while the service ran: "
                        "put it back, or restart the service"
                    )
            if self._folder_lock:
                self._folder_lock.check()
            if not self._watched:
                return  # on a disk that was full from the start
            if is_cut_short(self.path, self._watched, self._seen_bytes):
                raise StorageUnavailable(
                    f"the queue's file {self.path} or its -wal was emptied or cut short while the service ran: "
                    "put both back, or restart the service"
                )
            with suppress(OSError):
                self._seen_bytes = self.path.stat().st_size

    def _open(self) -> sqlite3.Connection:
        self._opened = open_database(self.path)
        with suppress(FileNotFoundError):  # of -shm, which SQLite does without where memory can't be shared
            shm = os.open(shm_of(self.path), os.O_RDONLY)
            self._watched = os.open(self.path, os.O_RDONLY), shm
        self._files = {path: file_identity(path) for path in (self.path, wal_of(self.path))}
        return self._opened


def wal_of(path: Path) -> Path:
    """Where SQLite writes changes first; they move into the file itself now and then."""
    return path.with_name(f"{path.name}-wal")


def shm_of(path: Path) -> Path:
    """Where SQLite holds what its connections share."""
    return path.with_name(f"{path.name}-shm")


def is_cut_short(path: Path, descriptors: tuple[int, int], seen_bytes: int) -> bool:
    """Whether the file or its -wal has less than SQLite believes, which looks no more at what it has read once.

    The -shm file holds that (https://sqlite.org/walformat.html, 2.1): a page's size, how many pages the -wal has, and
    how many the database has, of which the file may lack those that are only in the -wal yet.

    Args:
        descriptors: of the file and its -shm. They stay open: closing any descriptor of a file gives up all locks that
            the process has on it, SQLite's too (https://sqlite.org/howtocorrupt.html, 2.2), and then another program
            that reads the queue and closes it takes the -wal away.
        seen_bytes: the length that the file had already.
    """
    file, shm = descriptors
    try:
        header, begins_well = os.pread(shm, 24, 0), os.pread(file, len(MAGIC), 0) == MAGIC
        wal_bytes, file_bytes = wal_of(path).stat().st_size, path.stat().st_size
    except OSError:
        return False  # it is no -wal database, or gone, which is another error
    if len(header) < 24:
        return False
    page_bytes, wal_pages, pages = struct.unpack("=14xHII", header)
    page_bytes = page_bytes or 65536
    needed_bytes = pages * page_bytes
    if wal_pages:
        needed_bytes = min(needed_bytes, seen_bytes)
        if wal_bytes < 32 + wal_pages * (24 + page_bytes):
            return True
    return file_bytes < needed_bytes or not begins_well

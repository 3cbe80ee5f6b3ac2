"""What SQLite's errors mean to the service's users."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend_gpu.errors import StorageDamaged, StorageUnavailable

# SQLite's errors, by their primary code. On a full disk -shm and -wal can't grow, which is an I/O error. A mistake in
# the SQL is none of these: it is ours, and no advice to the user.
FULL_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
IN_USE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
MISTAKES = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_TOOBIG,
}


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite refuses into StorageUnavailable, with what to do; a mistake in the SQL stays what it is."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = primary_code(error)
        if code in MISTAKES:
            raise
        if code in DAMAGED:
            raise StorageDamaged(
                f"the queue's file {path} is damaged ({error}): put back an earlier copy, "
                "or move it away to begin with an empty queue"
            ) from error
        if code in IN_USE:
            raise StorageUnavailable(f"another program holds the queue's file {path} ({error}): end that") from error
        raise StorageUnavailable(
            f"the data folder {path.parent} can't be used ({error}): free some space or make it writable"
        ) from error


def primary_code(error: sqlite3.DatabaseError) -> int:
    """SQLite's kind of error; that of a mistake where Python alone has found one."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF

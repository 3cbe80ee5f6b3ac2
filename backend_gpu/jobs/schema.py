"""The tables of the queue's file, version by version, and how a file is brought up to the newest."""

import sqlite3
from contextlib import closing
from pathlib import Path

from backend_gpu.errors import StorageDamaged, StorageUnavailable
from backend_gpu.jobs.storage_errors import MISTAKES, primary_code

# What made each version of the file from the one before; the file's `user_version` counts those it has seen. A version
# that was ever released stays as it is. The first one can be run again: files of its time don't count yet.
MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    request TEXT NOT NULL,
    batch_key TEXT NOT NULL,
    pictures INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued',
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL,
    error_code TEXT,
    error_message TEXT,
    is_delivered INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    fingerprint TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, number);
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, served_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS timings (
    model TEXT NOT NULL,
    stage TEXT NOT NULL,
    pictures INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (model, stage, pictures)
);
""",
    "ALTER TABLE jobs ADD COLUMN request_id TEXT NOT NULL DEFAULT '';",
    "DELETE FROM timings; ALTER TABLE timings RENAME COLUMN pictures TO size;",  # of the base model: rows, from now on
    # Turns are counted: a clock may jump. A job's time in its owner's quota is its own: `created_at` names its pictures
    """
ALTER TABLE owners RENAME TO owners_by_time;
CREATE TABLE owners (owner TEXT PRIMARY KEY, turn INTEGER NOT NULL);
INSERT INTO owners SELECT owner, row_number() OVER (ORDER BY served_at) FROM owners_by_time;
DROP TABLE owners_by_time;
ALTER TABLE jobs ADD COLUMN counted_at REAL NOT NULL DEFAULT 0;
UPDATE jobs SET counted_at = created_at;
ALTER TABLE jobs ADD COLUMN unknown_words TEXT NOT NULL DEFAULT '[]';
""",
)
# Of rows that nobody could name or reach otherwise, whoever wrote them
REPAIRS = """
UPDATE jobs SET id = lower(hex(randomblob(16))) WHERE typeof(id) != 'text';
UPDATE owners SET turn = 0 WHERE typeof(turn) != 'integer' OR turn NOT BETWEEN 0 AND 1000000000000000;
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, brought up to this version; any thread may use the connection.

    Raises:
        StorageUnavailable: a later version of the service has written it.
        StorageDamaged: it lacks what its version has.
    """
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    try:
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")  # one bad row is no bad table
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
        (known,) = connection.execute("PRAGMA user_version").fetchone()
        if known > len(MIGRATIONS):
            raise StorageUnavailable(
                f"{path} is of version {known}, this service reads up to {len(MIGRATIONS)}: "
                "run the service that wrote it, or set BACKEND_DATA_DIR"
            )
        try:
            for version in range(known, len(MIGRATIONS)):
                migrate(connection, version)
        except sqlite3.OperationalError as error:
            if primary_code(error) not in MISTAKES:
                raise
            raise StorageDamaged(
                f"{path} says that it is of version {known}, but has other tables ({error}): put back an earlier copy, "
                "or move the file away to begin with an empty queue"
            ) from error
        check_columns(connection, path)
        connection.executescript(REPAIRS)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file from a version to the next, wholly or not at all."""
    connection.executescript(f"BEGIN; {MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;")


def check_columns(connection: sqlite3.Connection, path: Path) -> None:
    """Compare the tables with those of a new file.

    Raises:
        StorageDamaged: a column is missing.
    """
    columns = (
        "SELECT tables.name || '.' || columns.name FROM sqlite_master AS tables,"
        " pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
    )
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        for version in range(len(MIGRATIONS)):
            migrate(fresh, version)
        needed = {name for (name,) in fresh.execute(columns)}
    if missing := needed - {name for (name,) in connection.execute(columns)}:
        raise StorageDamaged(
            f"{path} has no {', '.join(sorted(missing))}: another program has changed it; "
            "put back an earlier copy, or move the file away to begin with an empty queue"
        )

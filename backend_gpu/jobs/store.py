"""Jobs on disk: one SQLite file that is right after a crash at any moment. All SQL is here."""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend_gpu.errors import (
    IdempotencyConflict,
    InvalidTransition,
    JobNotFound,
    QueueFull,
    RateLimited,
    StorageUnavailable,
)
from backend_gpu.jobs.job import ENDED, Job, JobError, JobRequest, JobStatus, new_job_id

logger = logging.getLogger(__name__)

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
)
# Of SQLite's errors, those that end when somebody makes room; -shm and -wal can't grow on a full disk either
FULL_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
# The queue's order: every owner's first waiting job, those owners first who were served longest ago; then their second
# jobs, and so on. A job whose attempt ended with the process has no place of its own: it runs alone (see batches.py),
# and its owner counts as served, so it neither holds the others up nor waits for ever.
IN_ORDER = """
SELECT jobs.*, row_number() OVER (
    ORDER BY turn, coalesce(served_at, 0), number
) AS place
FROM (
    SELECT *, row_number() OVER (PARTITION BY owner ORDER BY number) AS turn
    FROM jobs WHERE status = 'queued'
) AS jobs
LEFT JOIN owners USING (owner)
ORDER BY place
"""


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How much may wait or run at once."""

    queued_jobs: int
    jobs_per_owner: int  # queued or running


class JobStore:
    """The jobs of one data folder; safe to use from any thread.

    Every method raises StorageUnavailable if the folder can't be read or written. On a disk that is full from the start
    the file is opened as soon as there is room.
    """

    def __init__(self, path: Path, caps: Caps, clock: Callable[[], float] = time.time) -> None:
        self.path, self.caps, self.clock = path, caps, clock
        self._lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None
        self._waiting: tuple[Job, ...] | None = None  # what `waiting` read since the last change
        with storage_access(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._opened = open_database(path)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in FULL_DISK:
                    raise
                logger.warning("the queue waits for room on the disk", extra={"reason": str(error)})

    def close(self) -> None:
        """Close the file; the store can't be used any more."""
        with self._lock:
            if self._opened:
                self._opened.close()

    def check_writable(self) -> None:
        """Write something that changes nothing."""
        with self._transaction() as sql:
            sql.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def add(
        self,
        request: JobRequest,
        retry_after_s: float,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        request_id: str = "",
    ) -> tuple[Job, bool]:
        """Accept a job, on disk when this returns; or find the one that the same key has made.

        Args:
            retry_after_s: told to a caller who finds the queue full.
            idempotency_key: names this submission; unique over all owners, so it should contain theirs.
            fingerprint: what the key was used for; the same key with another is refused.
            request_id: of the HTTP request, for the log.

        Returns: the job, and whether it is new.

        Raises:
            QueueFull: too many jobs wait.
            RateLimited: the owner has too many jobs waiting or running.
            IdempotencyConflict: the key came before with another fingerprint.
        """
        with self._transaction() as sql:
            if idempotency_key is not None and (earlier := self.find(idempotency_key, fingerprint)):
                return earlier, False
            self._check_caps(sql, request.owner, retry_after_s)
            row = sql.execute(
                "INSERT INTO jobs (id, owner, request, batch_key, pictures, created_at, idempotency_key, fingerprint,"
                " request_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                (
                    new_job_id(),
                    request.owner,
                    json.dumps(request.to_json(), ensure_ascii=False),
                    request.batch_key,
                    request.n,
                    self.clock(),
                    idempotency_key,
                    fingerprint,
                    request_id,
                ),
            ).fetchone()
            return read_job(row), True

    def find(self, idempotency_key: str, fingerprint: str) -> Job | None:
        """The job that a key has made.

        Raises:
            IdempotencyConflict: the key came with another fingerprint.
        """
        rows = self._read("SELECT * FROM jobs WHERE idempotency_key = ?", idempotency_key)
        if rows and rows[0]["fingerprint"] != fingerprint:
            raise IdempotencyConflict("this Idempotency-Key was used for another request: take a new one")
        return read_job(rows[0]) if rows else None

    def newest(self, owner: str, fingerprint: str, since: float) -> Job | None:
        """The last job that an owner's request of this fingerprint made, if it is not older than `since`."""
        rows = self._read(
            "SELECT * FROM jobs WHERE owner = ? AND fingerprint = ? AND created_at >= ? ORDER BY number DESC LIMIT 1",
            owner,
            fingerprint,
            since,
        )
        return read_job(rows[0]) if rows else None

    def get(self, job_id: str) -> Job:
        """Read one job.

        Raises:
            JobNotFound: there is none with that id.
        """
        rows = self._read("SELECT * FROM jobs WHERE id = ?", job_id)
        if not rows:
            raise JobNotFound(f"there is no job {job_id}: it never was, or it ended long ago")
        return read_job(rows[0])

    def of_owner(self, owner: str, limit: int) -> list[Job]:
        """An owner's jobs, newest first."""
        rows = self._read("SELECT * FROM jobs WHERE owner = ? ORDER BY number DESC LIMIT ?", owner, limit)
        return [read_job(row) for row in rows]

    def pictures_since(self, owner: str, since: float) -> tuple[int, float]:
        """How many pictures an owner has asked for, and when first; `since` itself if there are none."""
        rows = self._read(
            "SELECT coalesce(sum(pictures), 0), coalesce(min(created_at), ?) FROM jobs"
            " WHERE owner = ? AND created_at > ?",
            since,
            owner,
            since,
        )
        pictures, first_at = rows[0]
        return pictures, first_at

    def waiting(self) -> tuple[Job, ...]:
        """The queued jobs in the order in which they will run, if nobody else comes.

        The same tuple until something is written: many ask for it, and this process alone writes.
        """
        with self._lock:
            if self._waiting is None:
                self._waiting = tuple(read_job(row) for row in self._read(IN_ORDER))
            return self._waiting

    def undelivered(self) -> list[Job]:
        """Jobs whose pictures are not in the gallery yet, oldest first."""
        rows = self._read("SELECT * FROM jobs WHERE status = 'succeeded' AND NOT is_delivered ORDER BY number")
        return [read_job(row) for row in rows]

    def count(self, *statuses: JobStatus) -> int:
        """How many jobs are in one of these states."""
        marks = ", ".join("?" * len(statuses))
        return int(self._read(f"SELECT count(*) FROM jobs WHERE status IN ({marks})", *statuses)[0][0])

    def claim(self, choose: Callable[[Sequence[Job]], Sequence[Job]]) -> list[Job]:
        """Take jobs to run: those that `choose` picks from the waiting ones in their order."""
        with self._transaction() as sql:
            waiting = self.waiting()
            if not waiting:
                return []
            now = self.clock()
            claimed = []
            for job in choose(waiting):
                row = sql.execute(
                    "UPDATE jobs SET status = 'running', started_at = ?, attempts = attempts + 1"
                    " WHERE id = ? AND status = 'queued' RETURNING *",
                    (now, job.id),
                ).fetchone()
                claimed.append(read_job(row))
                sql.execute(
                    "INSERT INTO owners VALUES (?, ?) ON CONFLICT DO UPDATE SET served_at = excluded.served_at",
                    (job.request.owner, now),
                )
            return claimed

    def succeed(self, job_id: str) -> Job:
        """End a running job whose pictures are on disk.

        Raises:
            InvalidTransition: it is not running any more.
        """
        return self._move(job_id, "succeeded", ("running",))

    def fail(self, job_id: str, error: JobError) -> Job:
        """End a running job without pictures.

        Raises:
            InvalidTransition: it is not running any more.
        """
        return self._move(job_id, "failed", ("running",), error)

    def cancel(self, job_id: str) -> Job:
        """End a job that has not ended; one that has stays as it is."""
        try:
            return self._move(job_id, "cancelled", ("queued", "running"))
        except InvalidTransition:
            return self.get(job_id)

    def put_back(self, job_ids: Sequence[str]) -> None:
        """Let running jobs wait again, their attempt not counted: the process stops in good order."""
        with self._transaction() as sql:
            for job_id in job_ids:
                sql.execute(
                    "UPDATE jobs SET status = 'queued', started_at = NULL, attempts = attempts - 1"
                    " WHERE id = ? AND status = 'running'",
                    (job_id,),
                )

    def recover(self, max_attempts: int) -> tuple[list[Job], list[Job]]:
        """After a start: jobs that a crash interrupted wait again, or have failed if it was their last attempt.

        Returns: those that wait again and those that have failed.
        """
        message = f"the service ended {max_attempts} times while it drew this: it is not tried again"
        with self._transaction() as sql:
            failed = sql.execute(
                "UPDATE jobs SET status = 'failed', finished_at = ?, error_code = 'engine_crashed', error_message = ?"
                " WHERE status = 'running' AND attempts >= ? RETURNING *",
                (self.clock(), message, max_attempts),
            ).fetchall()
            waiting = sql.execute(
                "UPDATE jobs SET status = 'queued', started_at = NULL WHERE status = 'running' RETURNING *"
            ).fetchall()
            return [read_job(row) for row in waiting], [read_job(row) for row in failed]

    def mark_delivered(self, job_id: str) -> None:
        """Note that a job's pictures are in the gallery."""
        with self._transaction() as sql:
            sql.execute("UPDATE jobs SET is_delivered = 1 WHERE id = ?", (job_id,))

    def prune(self, older_than_s: float) -> int:
        """Forget jobs that ended so long ago and have nothing left to deliver, and who was served last so long ago.

        Returns: how many jobs.
        """
        with self._transaction() as sql:
            sql.execute("DELETE FROM owners WHERE served_at < ?", (self.clock() - older_than_s,))
            marks = ", ".join("?" * len(ENDED))
            return sql.execute(
                f"DELETE FROM jobs WHERE status IN ({marks}) AND finished_at < ?"
                " AND (is_delivered OR status != 'succeeded')",
                (*ENDED, self.clock() - older_than_s),
            ).rowcount

    def write_timing(self, model: str, stage: str, size: int, seconds: float) -> None:
        """Keep how long a stage takes a model at a size."""
        with self._transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO timings VALUES (?, ?, ?, ?)", (model, stage, size, seconds))

    def timings(self, model: str) -> dict[tuple[str, int], float]:
        """Seconds by (stage, size)."""
        rows = self._read("SELECT stage, size, seconds FROM timings WHERE model = ?", model)
        return {(stage, size): seconds for stage, size, seconds in rows}

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = open_database(self.path)
        return self._opened

    def _move(self, job_id: str, to: JobStatus, start: Sequence[JobStatus], error: JobError | None = None) -> Job:
        with self._transaction() as sql:
            marks = ", ".join("?" * len(start))
            row = sql.execute(
                "UPDATE jobs SET status = ?, finished_at = ?, error_code = ?, error_message = ?"
                f" WHERE id = ? AND status IN ({marks}) RETURNING *",
                (to, self.clock(), error and error.code, error and error.message, job_id, *start),
            ).fetchone()
        if row is None:
            raise InvalidTransition(f"job {job_id} is {self.get(job_id).status} and can't become {to}")
        return read_job(row)

    def _check_caps(self, sql: sqlite3.Connection, owner: str, retry_after_s: float) -> None:
        (queued,) = sql.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()
        if queued >= self.caps.queued_jobs:
            raise QueueFull(
                f"the queue is full: {queued} jobs wait, at most {self.caps.queued_jobs}; "
                f"try again in {retry_after_s:.0f} s",
                retry_after_s,
            )
        (owned,) = sql.execute(
            "SELECT count(*) FROM jobs WHERE owner = ? AND status IN ('queued', 'running')", (owner,)
        ).fetchone()
        if owned >= self.caps.jobs_per_owner:
            raise RateLimited(
                f"you have {owned} jobs waiting or running, at most {self.caps.jobs_per_owner}: "
                f"wait for one to end (about {retry_after_s:.0f} s) or cancel one",
                retry_after_s,
            )

    def _read(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with storage_access(self.path), self._lock:
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it or nothing."""
        with storage_access(self.path), self._lock:
            if self._connection.in_transaction:  # one whose ROLLBACK failed, too
                self._connection.execute("ROLLBACK")
                self._waiting = None
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._waiting = None


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, brought up to this version; any thread may use the connection.

    Raises:
        StorageUnavailable: a later version of the service has written it.
    """
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
        (known,) = connection.execute("PRAGMA user_version").fetchone()
        if known > len(MIGRATIONS):
            raise StorageUnavailable(
                f"{path} is of version {known}, this service reads up to {len(MIGRATIONS)}: "
                "run the service that wrote it, or set BACKEND_DATA_DIR"
            )
        for version, statements in enumerate(MIGRATIONS[known:], known + 1):
            connection.executescript(f"BEGIN; {statements} PRAGMA user_version = {version}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def read_job(row: sqlite3.Row) -> Job:
    """A row as a Job."""
    return Job(
        id=row["id"],
        request=JobRequest.from_json(json.loads(row["request"])),
        status=row["status"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        attempts=row["attempts"],
        error=JobError(row["error_code"], row["error_message"]) if row["error_code"] else None,
        is_delivered=bool(row["is_delivered"]),
        request_id=row["request_id"],
    )


@contextmanager
def storage_access(path: Path) -> Iterator[None]:
    """Turn what SQLite or the file system refuses into StorageUnavailable."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
        raise StorageUnavailable(
            f"the data folder {path.parent} can't be used ({error}): free some space or make it writable"
        ) from error

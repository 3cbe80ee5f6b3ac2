"""Jobs on disk: one SQLite file that is right after a crash at any moment. All SQL is here."""

import json
import logging
import math
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backend_gpu.errors import (
    BackendError,
    IdempotencyConflict,
    InvalidTransition,
    JobNotFound,
    QueueFull,
    RateLimited,
    StorageDamaged,
    StorageUnavailable,
)
from backend_gpu.jobs.folder_lock import FolderLock, file_identity
from backend_gpu.jobs.job import (
    ENDED,
    JOB_ID,
    JOB_STATUSES,
    Job,
    JobError,
    JobStatus,
    new_job_id,
)
from backend_gpu.jobs.request import JobRequest, UnreadableRequest

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
OLDEST_SQLITE = (3, 35)  # the first that knows RETURNING
MAGIC = b"SQLite format 3\0"  # a file begins with it
LATEST_TIME_S = 253402300799.0  # the end of the year 9999: what a date can be
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
# The queue's order: every owner's first waiting job, those owners first who were served longest ago; then their second
# jobs, and so on. A job whose attempt ended with the process has no place of its own: it runs alone (see batches.py),
# and its owner counts as served, so it neither holds the others up nor waits for ever.
IN_ORDER = """
SELECT jobs.*
FROM (
    SELECT *, row_number() OVER (PARTITION BY owner ORDER BY number) AS round
    FROM jobs WHERE status = 'queued'
) AS jobs
LEFT JOIN owners USING (owner)
ORDER BY round, coalesce(turn, 0), number
"""


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How much may wait or run at once."""

    queued_jobs: int
    jobs_per_owner: int  # queued or running


class JobStore:
    """The jobs of one data folder; safe to use from any thread.

    Every method raises StorageUnavailable if the folder can't be read or written; so do all that write, if the file was
    removed or replaced while it was open. On a disk that is full from the start the file is opened as soon as there is
    room. A row that can't be read is a job that fails (see `fail_unreadable`), and holds up nothing.

    Args:
        lock: kept on the folder; checked before each commit, like the file.
    """

    def __init__(
        self, path: Path, caps: Caps, clock: Callable[[], float] = time.time, lock: FolderLock | None = None
    ) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise BackendError(
                f"this Python's SQLite is {sqlite3.sqlite_version}, and the queue needs 3.35 or newer: "
                "use another Python (BASE_PYTHON=… make run, after make clean)"
            )
        self.path, self.caps, self.clock = path, caps, clock
        self._folder_lock = lock
        self._lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None
        self._is_closed = False
        self._files: dict[Path, tuple[int, int] | None] = {}  # device and inode of what was opened
        self._seen_bytes = 0  # the length of the file
        self._waiting: tuple[Job, ...] | None = None  # what `waiting` read since the last change
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
        """Close the file; the store can't be used any more."""
        with self._lock:
            self._is_closed = True
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
        unknown_words: Sequence[str] = (),
    ) -> tuple[Job, bool]:
        """Accept a job, on disk when this returns; or find the one that the same key has made.

        Args:
            retry_after_s: told to a caller who finds the queue full.
            idempotency_key: names this submission; unique over all owners, so it should contain theirs.
            fingerprint: what the key was used for; the same key with another is refused.
            request_id: of the HTTP request, for the log.
            unknown_words: of its prompts, which the model leaves out.

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
                "INSERT INTO jobs (id, owner, request, batch_key, pictures, created_at, counted_at, idempotency_key,"
                " fingerprint, request_id, unknown_words) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                (
                    new_job_id(),
                    request.owner,
                    json.dumps(request.to_json(), ensure_ascii=False),
                    "",  # of earlier versions: the engine says now what may share a batch
                    request.n,
                    now := self.clock(),
                    now,
                    idempotency_key,
                    fingerprint,
                    request_id,
                    json.dumps(unknown_words, ensure_ascii=False),
                ),
            ).fetchone()
            return read_job(row), True

    def find(self, idempotency_key: str, fingerprint: str) -> Job | None:
        """The job that a key has made.

        Raises:
            IdempotencyConflict: the key came with another fingerprint.
        """
        self._check_files()  # the caller is told that it was accepted
        rows = self._read("SELECT * FROM jobs WHERE idempotency_key = ?", idempotency_key)
        if rows and rows[0]["fingerprint"] != fingerprint:
            raise IdempotencyConflict("this Idempotency-Key was used for another request: take a new one")
        return read_job(rows[0]) if rows else None

    def newest(self, owner: str, fingerprint: str, since: float) -> Job | None:
        """The last job that an owner's request of this fingerprint made, if it is not older than `since`."""
        rows = self._read(
            "SELECT * FROM jobs WHERE owner = ? AND fingerprint = ? AND counted_at >= ? ORDER BY number DESC LIMIT 1",
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
        """How many pictures an owner has asked for, and when first: not after now, and `since` if there are none."""
        rows = self._read(
            "SELECT coalesce(sum(pictures), 0), coalesce(min(counted_at), ?) FROM jobs"
            " WHERE owner = ? AND counted_at > ?",
            since,
            owner,
            since,
        )
        pictures, first_at = rows[0]
        return pictures, min(first_at, self.clock())

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
            (turn,) = sql.execute("SELECT coalesce(max(turn), 0) + 1 FROM owners").fetchone()
            claimed = []
            for job in choose(waiting):
                row = sql.execute(
                    "UPDATE jobs SET status = 'running', started_at = ?, attempts = attempts + 1"
                    " WHERE id = ? AND status = 'queued' RETURNING *",
                    (now, job.id),
                ).fetchone()
                claimed.append(read_job(row))
                sql.execute(
                    "INSERT INTO owners (owner, turn) VALUES (?, ?) ON CONFLICT DO UPDATE SET turn = excluded.turn",
                    (job.request.owner, turn),
                )
            return claimed

    def fail_unreadable(self) -> list[Job]:
        """End the waiting jobs whose request can't be read, such as those of a later version of the service.

        Returns: those.
        """
        unreadable = [job for job in self.waiting() if job.unreadable]
        return [
            self._move(
                job.id,
                "failed",
                ("queued",),
                JobError(
                    "unreadable_request",
                    f"this version of the service can't read what was asked for ({job.unreadable}): send it again",
                ),
            )
            for job in unreadable
        ]

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
        """Forget jobs that ended so long ago and have nothing left to deliver, and the turns of owners without jobs.

        Times that the clock has not reached yet become now: it was wrong when they were written, or it is wrong now.

        Returns: how many jobs.
        """
        now = self.clock()
        with self._transaction() as sql:
            sql.execute("UPDATE jobs SET counted_at = ? WHERE counted_at > ?", (now, now))
            sql.execute("UPDATE jobs SET finished_at = ? WHERE finished_at > ?", (now, now))
            marks = ", ".join("?" * len(ENDED))
            forgotten = sql.execute(
                f"DELETE FROM jobs WHERE status IN ({marks}) AND finished_at < ?"
                " AND (is_delivered OR status != 'succeeded')",
                (*ENDED, now - older_than_s),
            ).rowcount
            sql.execute("DELETE FROM owners WHERE owner NOT IN (SELECT owner FROM jobs)")
            return forgotten

    def write_timing(self, model: str, stage: str, size: int, seconds: float) -> None:
        """Keep how long a stage takes a model at a size."""
        with self._transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO timings (model, stage, size, seconds) VALUES (?, ?, ?, ?)",
                (model, stage, size, seconds),
            )

    def timings(self, model: str) -> dict[tuple[str, int], float]:
        """Seconds by (stage, size); what is no time is left out, and measured anew."""
        rows = self._read(
            "SELECT stage, size, seconds FROM timings WHERE model = ? AND typeof(size) = 'integer' AND size > 0"
            " AND typeof(seconds) = 'real' AND seconds BETWEEN 0 AND 1e6",
            model,
        )
        return {(stage, size): seconds for stage, size, seconds in rows}

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._is_closed:
            raise StorageUnavailable("the service stops and has closed its queue: try again when it has started")
        return self._opened or self._open()

    def _open(self) -> sqlite3.Connection:
        self._opened = open_database(self.path)
        self._files = {path: file_identity(path) for path in (self.path, wal_of(self.path))}
        return self._opened

    def _check_files(self) -> None:
        """See that what is open is still what has these names, and whole: else the next start would lose jobs."""
        with self._lock:
            for path, opened in self._files.items():
                if file_identity(path) != opened:
                    raise StorageUnavailable(
                        f"the queue's file {path} was removed or replaced while the service ran: "
                        "put it back, or restart the service"
                    )
            if self._folder_lock:
                self._folder_lock.check()
            if not self._files:
                return  # on a disk that was full from the start
            if is_cut_short(self.path, self._seen_bytes):
                raise StorageUnavailable(
                    f"the queue's file {self.path} or its -wal was emptied or cut short while the service ran: "
                    "put both back, or restart the service"
                )
            with suppress(OSError):
                self._seen_bytes = self.path.stat().st_size

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
        with sqlite_errors(self.path), self._lock:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError:
                self._check_files()  # if that is why, it is told so
                raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it or nothing."""
        with sqlite_errors(self.path), self._lock:
            self._check_files()
            if self._connection.in_transaction:  # one whose ROLLBACK failed, too
                self._connection.execute("ROLLBACK")
                self._waiting = None
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._check_files()  # it may have happened meanwhile
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


def wal_of(path: Path) -> Path:
    """Where SQLite writes changes first; they move into the file itself now and then."""
    return path.with_name(f"{path.name}-wal")


def is_cut_short(path: Path, seen_bytes: int) -> bool:
    """Whether the file or its -wal has less than SQLite believes, which looks no more at what it has read once.

    The -shm file holds that (https://sqlite.org/walformat.html, 2.1): a page's size, how many pages the -wal has, and
    how many the database has, of which the file may lack those that are only in the -wal yet.

    Args:
        seen_bytes: the length that the file had already.
    """
    try:
        with path.with_name(f"{path.name}-shm").open("rb") as file:
            header = file.read(24)
        with path.open("rb") as file:
            begins_well = file.read(len(MAGIC)) == MAGIC
        wal_bytes, file_bytes = wal_of(path).stat().st_size, path.stat().st_size
    except OSError:
        return False  # it is no -wal database, or gone, which is told otherwise
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


def read_job(row: sqlite3.Row) -> Job:
    """A row as a Job, whatever stands in it."""
    unreadable, error = "", None
    status: JobStatus = row["status"]
    try:
        if status not in JOB_STATUSES:
            raise UnreadableRequest(f"its status is {status!r}")
        if not JOB_ID.fullmatch(row["id"]):
            raise UnreadableRequest(f"its id is {row['id']!r}")
        request = JobRequest.from_json(row["request"])
    except UnreadableRequest as reason:
        unreadable = str(reason)
        request = JobRequest.stand_in(row["request"], row["owner"], row["pictures"])
        status = status if status in JOB_STATUSES else "failed"
        error = JobError("unreadable_request", f"this version of the service can't read it: {unreadable}")
    if row["error_code"]:
        error = JobError(str(row["error_code"]), str(row["error_message"]))
    return Job(
        id=row["id"],
        request=request,
        status=status,
        created_at=time_in(row["created_at"]) or 0.0,
        started_at=time_in(row["started_at"]),
        finished_at=time_in(row["finished_at"]),
        attempts=row["attempts"],
        error=error if status == "failed" else None,
        is_delivered=bool(row["is_delivered"]),
        request_id=row["request_id"],
        unknown_words=words_in(row["unknown_words"]),
        unreadable=unreadable,
    )


def words_in(text: str) -> tuple[str, ...]:
    """Words that a column holds; none if it holds anything else."""
    try:
        words = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return ()
    return tuple(str(word).encode(errors="replace").decode() for word in words) if isinstance(words, list) else ()


def time_in(value: object) -> float | None:
    """A time that a column holds; None if it holds none."""
    if not isinstance(value, int | float) or math.isnan(value):
        return None
    return min(max(float(value), 0.0), LATEST_TIME_S)


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

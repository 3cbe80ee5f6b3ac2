"""Jobs on disk: one SQLite file that stays consistent whenever the process dies. All SQL about jobs is here."""

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backend_gpu.errors import IdempotencyConflict, InvalidTransition, JobNotFound
from backend_gpu.jobs.database import Database
from backend_gpu.jobs.folder_lock import FolderLock
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
from backend_gpu.jobs.retries import Claim
from backend_gpu.jobs.schema import MIGRATIONS

LATEST_TIME_S = 253402300799.0  # the end of the year 9999: what a date can be
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


class JobStore:
    """The jobs of one data folder; safe to use from any thread.

    Every method raises StorageUnavailable if the folder can't be read or written, or if its files were taken away (see
    Database). A row that can't be read is a job that fails (see `fail_unreadable`), and holds up nothing.

    Args:
        folder_lock: of the folder; checked before each commit.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, folder_lock: FolderLock | None = None
    ) -> None:
        self.clock = clock
        self.database = Database(path, folder_lock)
        self._waiting: tuple[Job, ...] | None = None  # what `waiting` read since the last change

    def close(self) -> None:
        """Close the file; the store can't be used any more."""
        self.database.close()

    def check_writable(self) -> None:
        """Write something that changes nothing."""
        with self._transaction() as sql:
            sql.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def add(
        self,
        request: JobRequest,
        claim: Claim | None = None,
        request_id: str = "",
        unknown_words: Sequence[str] = (),
    ) -> Job:
        """Write a job down; it is on disk when this returns. Whether it may be accepted is for Intake to say.

        Args:
            claim: by which the same submission is recognised when it comes again; none if it never is.
            request_id: of the HTTP request, for the log.
            unknown_words: of its prompts, which the model leaves out.
        """
        claim = claim or Claim(owner=request.owner)
        with self._transaction() as sql:
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
                    claim.idempotency_key,
                    claim.fingerprint,
                    request_id,
                    json.dumps(unknown_words, ensure_ascii=False),
                ),
            ).fetchone()
            return read_job(row)

    def find(self, claim: Claim) -> Job | None:
        """The job that a claim's key has made; None if there is none, or no key.

        Raises:
            IdempotencyConflict: the key came with another fingerprint.
        """
        if claim.key is None:
            return None
        self.database.check_files()  # the caller takes what is found for accepted
        rows = self.database.read("SELECT * FROM jobs WHERE idempotency_key = ?", claim.idempotency_key)
        if rows and rows[0]["fingerprint"] != claim.fingerprint:
            raise IdempotencyConflict("this Idempotency-Key was used for another request: take a new one")
        return read_job(rows[0]) if rows else None

    def newest(self, claim: Claim, since: float) -> Job | None:
        """The last job that the same owner's same request has made, if it is not older than `since`."""
        rows = self.database.read(
            "SELECT * FROM jobs WHERE owner = ? AND fingerprint = ? AND counted_at >= ? ORDER BY number DESC LIMIT 1",
            claim.owner,
            claim.fingerprint,
            since,
        )
        return read_job(rows[0]) if rows else None

    def get(self, job_id: str) -> Job:
        """Read one job.

        Raises:
            JobNotFound: there is none with that id.
        """
        rows = self.database.read("SELECT * FROM jobs WHERE id = ?", job_id)
        if not rows:
            raise JobNotFound(f"there is no job {job_id}: it never was, or it ended long ago")
        return read_job(rows[0])

    def of_owner(self, owner: str, limit: int) -> list[Job]:
        """An owner's jobs, newest first."""
        rows = self.database.read("SELECT * FROM jobs WHERE owner = ? ORDER BY number DESC LIMIT ?", owner, limit)
        return [read_job(row) for row in rows]

    def pictures_since(self, owner: str, since: float) -> tuple[int, float]:
        """How many pictures an owner has asked for, and when first: not after now, and `since` if there are none."""
        rows = self.database.read(
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
        with self.database.lock:
            if self._waiting is None:
                self._waiting = tuple(read_job(row) for row in self.database.read(IN_ORDER))
            return self._waiting

    def undelivered(self) -> list[Job]:
        """Jobs whose pictures are not in the gallery yet, oldest first."""
        rows = self.database.read("SELECT * FROM jobs WHERE status = 'succeeded' AND NOT is_delivered ORDER BY number")
        return [read_job(row) for row in rows]

    def count(self, *statuses: JobStatus, owner: str | None = None) -> int:
        """How many jobs are in one of these states, of all owners or of one."""
        marks = ", ".join("?" * len(statuses))
        (row,) = self.database.read(
            f"SELECT count(*) FROM jobs WHERE status IN ({marks}) AND owner = coalesce(?, owner)", *statuses, owner
        )
        return int(row[0])

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
        rows = self.database.read(
            "SELECT stage, size, seconds FROM timings WHERE model = ? AND typeof(size) = 'integer' AND size > 0"
            " AND typeof(seconds) = 'real' AND seconds BETWEEN 0 AND 1e6",
            model,
        )
        return {(stage, size): seconds for stage, size, seconds in rows}

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

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self.database.transaction() as sql:
            self._waiting = None  # it may have been read from a change that was taken back since
            try:
                yield sql
            finally:
                self._waiting = None


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

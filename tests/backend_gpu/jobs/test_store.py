import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend_gpu.errors import (
    InvalidTransition,
    JobNotFound,
    StorageUnavailable,
)
from backend_gpu.jobs.job import Job, JobError, JobStatus
from backend_gpu.jobs.retries import Claim
from backend_gpu.jobs.schema import MIGRATIONS
from backend_gpu.jobs.store import JobStore
from tests.backend_gpu.jobs.clock import Clock
from tests.backend_gpu.jobs.conftest import a_request, read_only, unreadable

BROKEN = JobError("engine_failed", "the engine failed")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    with closing(JobStore(tmp_path / "data" / "jobs.sqlite3", clock)) as opened:
        yield opened


def reopened(store: JobStore) -> JobStore:
    """The store after a crash: nobody has closed the first one."""
    return JobStore(store.database.path, store.clock)


def add(store: JobStore, owner: str = "anna", **fields: Any) -> Job:
    return store.add(a_request(owner=owner, **fields))


def first(waiting: Sequence[Job]) -> Sequence[Job]:
    return waiting[:1]


def everything(waiting: Sequence[Job]) -> Sequence[Job]:
    return waiting


def run_all(store: JobStore, clock: Clock) -> list[Job]:
    """Run one job after another until none waits; those that ran, in their order."""
    ran: list[Job] = []
    while claimed := store.claim(first):
        clock.advance(1)
        ran.append(store.succeed(claimed[0].id))
    return ran


def in_state(store: JobStore, status: JobStatus) -> Job:
    """A job of its own in some state."""
    job = add(store)
    if status == "cancelled":
        return store.cancel(job.id)
    if status != "queued":
        store.claim(lambda waiting: [one for one in waiting if one.id == job.id])
    if status == "succeeded":
        store.succeed(job.id)
    elif status == "failed":
        store.fail(job.id, BROKEN)
    return store.get(job.id)


# Adding and reading


def test_a_job_is_read_as_it_was_added(store: JobStore, clock: Clock) -> None:
    request = a_request(
        prompt="a red apple",
        source_prompt="赤い🍎と\n「りんご」",
        translator="offline",
        negative_prompt="blue",
        seed=2**32 - 1,
    )
    job = store.add(request)
    assert job.request == request
    assert (job.status, job.created_at, job.attempts) == ("queued", clock.now, 0)
    assert store.get(job.id) == job


def test_a_job_that_never_was_is_not_found(store: JobStore) -> None:
    with pytest.raises(JobNotFound, match="0123abcd"):
        store.get("0123abcd")
    with pytest.raises(JobNotFound):
        store.cancel("0123abcd")


def test_an_owner_sees_their_own_newest_jobs(store: JobStore) -> None:
    jobs = [add(store, owner) for owner in ("anna", "ben", "anna", "anna")]
    assert store.of_owner("anna", limit=2) == [jobs[3], jobs[2]]
    assert store.of_owner("ben", limit=2) == [jobs[1]]
    assert store.of_owner("'; DROP TABLE jobs; --", limit=2) == []


def test_jobs_are_counted_by_status(store: JobStore) -> None:
    for status in ("queued", "running", "failed"):
        in_state(store, status)
    assert store.count("queued") == store.count("running") == store.count("failed") == 1
    assert store.count("queued", "running") == 2
    assert store.count("succeeded") == 0


# The same submission again


def test_a_key_finds_its_job_after_a_crash(store: JobStore) -> None:
    claim = Claim(owner="anna", key="1", fingerprint="print")
    job = store.add(a_request(), claim)
    assert store.find(claim) == job
    assert store.find(replace(claim, key="2")) is None
    with closing(reopened(store)) as after_crash:
        assert after_crash.find(claim) == job


def test_the_newest_job_of_a_fingerprint_is_found_if_it_is_young_enough(store: JobStore, clock: Clock) -> None:
    claim = Claim(owner="anna", fingerprint="print")
    store.add(a_request(), claim)
    clock.advance(10)
    newest = store.add(a_request(), claim)
    assert store.newest(claim, since=clock.now) == newest
    assert store.newest(claim, since=clock.now + 1) is None
    assert store.newest(replace(claim, owner="ben"), since=0) is None


# The order


def test_an_owner_with_many_jobs_does_not_keep_others_waiting(store: JobStore, clock: Clock) -> None:
    for owner in ("anna", "anna", "anna", "ben", "ben", "cleo"):
        clock.advance(1)
        add(store, owner)
    planned = [job.id for job in store.waiting()]
    ran = run_all(store, clock)
    assert [job.request.owner for job in ran] == ["anna", "ben", "cleo", "anna", "ben", "anna"]
    assert [job.id for job in ran] == planned


def test_the_owner_served_longest_ago_is_next(store: JobStore, clock: Clock) -> None:
    for owner in ("anna", "ben", "cleo"):
        clock.advance(1)
        add(store, owner)
        run_all(store, clock)
    for owner in ("cleo", "ben", "anna", "new"):
        add(store, owner)
    assert [job.request.owner for job in store.waiting()] == ["new", "anna", "ben", "cleo"]


def test_a_job_that_went_down_with_the_process_waits_for_other_owners_but_not_for_ever(store: JobStore) -> None:
    crashed = add(store, "anna")
    store.claim(first)
    store.recover(max_attempts=2)
    of_ben, of_anna = (add(store, owner) for owner in ("ben", "anna"))
    assert [job.id for job in store.waiting()] == [of_ben.id, crashed.id, of_anna.id]


def test_the_order_is_read_anew_only_after_a_change(store: JobStore) -> None:
    add(store, "anna")
    waiting = store.waiting()
    assert store.waiting() is waiting
    ben = add(store, "ben")
    assert [job.request.owner for job in store.waiting()] == ["anna", "ben"]
    store.cancel(ben.id)
    assert [job.request.owner for job in store.waiting()] == ["anna"]
    store.claim(first)
    assert store.waiting() == ()


# Running and ending


def test_claimed_jobs_run_and_are_not_claimed_again(store: JobStore, clock: Clock) -> None:
    jobs = [add(store, owner) for owner in ("anna", "ben", "cleo")]
    clock.advance(5)
    claimed = store.claim(lambda waiting: waiting[:2])
    assert [job.id for job in claimed] == [job.id for job in jobs[:2]]
    assert {(job.status, job.started_at, job.attempts) for job in claimed} == {("running", clock.now, 1)}
    assert [job.id for job in store.claim(everything)] == [jobs[2].id]
    assert store.claim(everything) == []


def test_a_failing_choice_claims_nothing(store: JobStore) -> None:
    add(store)

    def fail(_: Sequence[Job]) -> Sequence[Job]:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 # the one above
        store.claim(fail)
    assert store.count("queued") == 1
    assert len(store.claim(everything)) == 1  # and the next one is not locked out


def test_a_failed_job_tells_why(store: JobStore, clock: Clock) -> None:
    job = in_state(store, "running")
    clock.advance(3)
    assert store.fail(job.id, BROKEN) == store.get(job.id)
    assert store.get(job.id).error == BROKEN
    assert store.get(job.id).finished_at == clock.now


@pytest.mark.parametrize("status", ["queued", "succeeded", "failed", "cancelled"])
def test_only_a_running_job_succeeds_or_fails(store: JobStore, status: JobStatus) -> None:
    job = in_state(store, status)
    with pytest.raises(InvalidTransition, match=f"is {status} and can't become succeeded"):
        store.succeed(job.id)
    with pytest.raises(InvalidTransition, match=f"is {status} and can't become failed"):
        store.fail(job.id, BROKEN)
    assert store.get(job.id) == job


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_job_that_has_not_ended_can_be_cancelled(store: JobStore, status: JobStatus) -> None:
    job = in_state(store, status)
    assert store.cancel(job.id).status == "cancelled"
    assert store.claim(everything) == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_cancelling_a_job_that_has_ended_changes_nothing(store: JobStore, clock: Clock, status: JobStatus) -> None:
    job = in_state(store, status)
    clock.advance(1)
    assert store.cancel(job.id) == job


def test_jobs_put_back_wait_as_if_they_had_never_run(store: JobStore) -> None:
    job = in_state(store, "running")
    ended = in_state(store, "succeeded")
    cancelled = in_state(store, "cancelled")
    store.put_back([job.id, ended.id, cancelled.id])
    again = store.get(job.id)
    assert (again.status, again.attempts, again.started_at) == ("queued", 0, None)
    assert store.get(ended.id) == ended
    assert store.get(cancelled.id) == cancelled


# Crashes


def test_what_was_accepted_or_ended_is_there_after_a_crash(store: JobStore) -> None:
    before = [in_state(store, status) for status in ("queued", "running", "succeeded", "failed", "cancelled")]
    with closing(reopened(store)) as after_crash:
        assert [after_crash.get(job.id) for job in before] == before


def test_an_interrupted_job_runs_again_until_it_has_had_its_attempts(store: JobStore) -> None:
    job = in_state(store, "running")
    waiting = add(store, "ben")
    with closing(reopened(store)) as second:
        assert second.recover(max_attempts=2) == ([second.get(job.id)], [])
        assert second.get(job.id).status == "queued"
        assert second.get(waiting.id) == waiting
        second.claim(lambda jobs: [one for one in jobs if one.id == job.id])
        with closing(reopened(second)) as third:
            waiting_again, (ended,) = third.recover(max_attempts=2)
            assert waiting_again == []
            assert ended == third.get(job.id)
            assert ended.status == "failed"
            assert ended.error is not None
            assert ended.error.code == "engine_crashed"
            assert "2 times" in ended.error.message
            assert ended.finished_at == third.clock()


def test_recovering_leaves_jobs_that_ended_alone(store: JobStore) -> None:
    ended = [in_state(store, status) for status in ("succeeded", "failed", "cancelled")]
    assert store.recover(max_attempts=1) == ([], [])
    assert [store.get(job.id) for job in ended] == ended


# Delivery and pruning


def test_a_succeeded_job_waits_for_its_delivery(store: JobStore) -> None:
    jobs = [in_state(store, status) for status in ("succeeded", "failed", "succeeded", "cancelled", "running")]
    assert store.undelivered() == [jobs[0], jobs[2]]
    store.mark_delivered(jobs[0].id)
    assert store.undelivered() == [jobs[2]]
    assert store.get(jobs[0].id).is_delivered


def test_pruning_forgets_old_jobs_but_none_that_is_owed(store: JobStore, clock: Clock) -> None:
    old = {status: in_state(store, status) for status in ("succeeded", "running", "failed", "cancelled", "queued")}
    delivered = in_state(store, "succeeded")
    store.mark_delivered(delivered.id)
    clock.advance(100)
    young = in_state(store, "failed")
    clock.advance(1)
    assert store.prune(older_than_s=100) == 3
    for gone in (old["failed"], old["cancelled"], delivered):
        with pytest.raises(JobNotFound):
            store.get(gone.id)
    for kept in (old["succeeded"], old["running"], old["queued"], young):
        assert store.get(kept.id) == kept


def test_pruning_forgets_the_turns_of_owners_without_jobs(store: JobStore, clock: Clock) -> None:
    for owner in ("long-ago", "lately"):
        clock.advance(100)
        add(store, owner)
        store.mark_delivered(run_all(store, clock)[0].id)
    store.prune(older_than_s=50)
    known = store.database.read("SELECT owner FROM owners")
    assert [row["owner"] for row in known] == ["lately"]


# Clocks that jump


@pytest.mark.parametrize("jump_s", [3600, 365 * 86400, -3600, -365 * 86400])
def test_turns_are_taken_whatever_the_clock_does(store: JobStore, clock: Clock, jump_s: float) -> None:
    for owner in ("anna", "ben"):
        add(store, owner)
    assert [job.request.owner for job in run_all(store, clock)] == ["anna", "ben"]
    for owner in ("anna", "ben") * 3:
        add(store, owner)
    clock.advance(jump_s)
    (ran,) = store.claim(first)
    store.succeed(ran.id)
    clock.advance(-jump_s)
    assert [ran.request.owner, *(job.request.owner for job in run_all(store, clock))] == ["anna", "ben"] * 3


def test_turns_that_a_file_of_the_third_version_kept_as_times_keep_their_order(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "jobs.sqlite3"
    with closing(sqlite3.connect(path)) as old:
        old.executescript("".join(MIGRATIONS[:3]) + "PRAGMA user_version = 3;")
        old.executemany(
            "INSERT INTO owners VALUES (?, ?)", [("anna", clock.now + 3600), ("ben", clock.now), ("cleo", 5.0)]
        )
        old.commit()
    with closing(JobStore(path, clock)) as store:
        for owner in ("anna", "ben", "cleo") * 2:
            add(store, owner)
        assert [job.request.owner for job in run_all(store, clock)] == ["cleo", "ben", "anna"] * 2


@pytest.mark.parametrize("ahead_s", [1, 3600, 365 * 86400])
def test_pictures_asked_for_by_a_clock_that_was_ahead_count_as_asked_for_now(
    store: JobStore, clock: Clock, ahead_s: float
) -> None:
    clock.advance(ahead_s)
    add(store, n=3)
    clock.advance(-ahead_s)
    assert store.pictures_since("anna", clock.now - 60) == (3, clock.now)
    store.prune(older_than_s=3600)
    begins_at = clock.now
    clock.advance(59)
    assert store.pictures_since("anna", clock.now - 60) == (3, begins_at)
    clock.advance(2)
    assert store.pictures_since("anna", clock.now - 60)[0] == 0


def test_a_job_that_ended_by_a_clock_that_was_ahead_is_forgotten_in_time(store: JobStore, clock: Clock) -> None:
    clock.advance(365 * 86400)
    job = in_state(store, "failed")
    clock.advance(-365 * 86400)
    store.prune(older_than_s=100)
    assert store.get(job.id).finished_at == clock.now
    clock.advance(101)
    assert store.prune(older_than_s=100) == 1


# Timings


def test_timings_are_kept_per_model(store: JobStore) -> None:
    store.write_timing("mini cpu", "base", 1, 0.5)
    store.write_timing("mini cpu", "base", 1, 0.25)
    store.write_timing("mini cpu", "upsample", 8, 2.0)
    store.write_timing("glide cuda", "base", 1, 9.0)
    with closing(reopened(store)) as after_crash:
        assert after_crash.timings("mini cpu") == {("base", 1): 0.25, ("upsample", 8): 2.0}
        assert after_crash.timings("another") == {}


# What the quota counts


def test_the_pictures_that_an_owner_asked_for_are_counted_whatever_became_of_them(
    store: JobStore, clock: Clock
) -> None:
    add(store, n=3)
    clock.advance(10)
    begins_at = clock.now
    clock.advance(1)
    store.cancel(add(store, n=2).id)
    clock.advance(1)
    add(store, n=4)
    add(store, "ben", n=8)
    with closing(reopened(store)) as after_crash:
        assert after_crash.pictures_since("anna", begins_at) == (6, begins_at + 1)
        assert after_crash.pictures_since("cleo", begins_at) == (0, begins_at)


# Files of other versions


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "jobs.sqlite3"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(MIGRATIONS[0])
        request = json.dumps(a_request().to_json())
        old.execute(
            "INSERT INTO jobs (id, owner, request, batch_key, pictures, created_at) VALUES (?, 'anna', ?, '', 1, 0)",
            ("1" * 32, request),
        )
        old.commit()
    for _ in range(2):
        with closing(JobStore(path, clock)) as opened:
            assert opened.get("1" * 32).request == a_request()
            assert opened.get("1" * 32).request_id == ""
            new = opened.add(a_request(), request_id="request-1")
            assert opened.get(new.id).request_id == "request-1"


def test_a_file_of_a_later_version_is_refused_and_left_alone(store: JobStore) -> None:
    later = len(MIGRATIONS) + 1
    store.database.connection.execute(f"PRAGMA user_version = {later}")
    with pytest.raises(StorageUnavailable, match=rf"version {later}.*up to {later - 1}"):
        reopened(store)
    assert store.database.connection.execute("PRAGMA user_version").fetchone()[0] == later


# Disks that fail


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no file be opened, as on a disk without room for SQLite's -shm."""

    def fail(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", fail)
        yield


def test_a_file_that_cannot_be_opened_on_a_full_disk_is_opened_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_disk(monkeypatch):
        store = JobStore(tmp_path / "jobs.sqlite3")
        with pytest.raises(StorageUnavailable, match="free some space"):
            add(store)
        with pytest.raises(StorageUnavailable, match="free some space"):
            store.check_writable()
    with closing(store):
        store.check_writable()
        assert store.get(add(store).id).status == "queued"


def test_a_disk_that_takes_nothing_is_found_without_a_job(store: JobStore) -> None:
    store.check_writable()
    with read_only(store), pytest.raises(StorageUnavailable, match="free some space"):
        store.check_writable()
    store.check_writable()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match="file"):
        JobStore(tmp_path / "file" / "jobs.sqlite3")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageUnavailable, match="not a database"):
        JobStore(tmp_path / "jobs.sqlite3")


def test_a_full_disk_refuses_jobs_and_loses_none(store: JobStore) -> None:
    job = add(store)
    (pages,) = store.database.connection.execute("PRAGMA page_count").fetchone()
    store.database.connection.execute(f"PRAGMA max_page_count = {pages}")
    accepted = [job.id]

    def fill() -> None:
        while len(accepted) < 100:  # the last pages have some room
            accepted.append(add(store, source_prompt="りんご" * 100).id)

    with pytest.raises(StorageUnavailable, match="full"):
        fill()
    assert [waiting.id for waiting in store.waiting()] == accepted
    store.database.connection.execute("PRAGMA max_page_count = 100000")  # somebody has made room
    accepted.append(add(store).id)
    with closing(reopened(store)) as after_crash:
        assert [waiting.id for waiting in after_crash.waiting()] == accepted


def test_a_folder_turned_read_only_refuses_changes_and_can_be_read(store: JobStore) -> None:
    job = in_state(store, "running")
    with read_only(store):
        for change in (
            lambda: add(store),
            lambda: store.succeed(job.id),
            lambda: store.cancel(job.id),
            lambda: store.put_back([job.id]),
            lambda: store.recover(2),
            lambda: store.write_timing("mini cpu", "base", 1, 0.5),
        ):
            with pytest.raises(StorageUnavailable, match="free some space or make it writable"):
                change()
        assert store.get(job.id) == job
    assert store.succeed(job.id).status == "succeeded"


def test_a_disk_with_errors_is_told_by_reading_too(store: JobStore) -> None:
    job = add(store)
    with unreadable(store):
        for read in (lambda: store.get(job.id), store.waiting, lambda: store.count("queued")):
            with pytest.raises(StorageUnavailable):
                read()
    assert store.get(job.id) == job


def test_a_disk_error_in_the_middle_of_a_change_undoes_it(store: JobStore) -> None:
    job = add(store)
    disk_error = ExitStack()

    def fail_from_here(_: Sequence[Job]) -> Sequence[Job]:
        disk_error.enter_context(unreadable(store))
        raise OSError("the disk fails")

    with disk_error, pytest.raises(StorageUnavailable):  # and so does the way back
        store.claim(fail_from_here)
    assert [claimed.id for claimed in store.claim(everything)] == [job.id]
    assert store.get(job.id).attempts == 1


def test_a_job_whose_writing_was_never_undone_is_not_drawn(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_error = ExitStack()

    def fail_from_here(_: object) -> Job:
        disk_error.enter_context(unreadable(store))
        raise OSError("the disk fails")

    monkeypatch.setattr("backend_gpu.jobs.store.read_job", fail_from_here)
    with disk_error, pytest.raises(StorageUnavailable):
        add(store)
    monkeypatch.undo()
    assert len(store.waiting()) == 1  # SQLite still has it, as nothing could take it back
    assert store.claim(everything) == []
    assert store.waiting() == ()


def test_a_closed_store_says_so(store: JobStore) -> None:
    store.close()
    with pytest.raises(StorageUnavailable):
        store.waiting()

"""What becomes a job, and what is sent away with the time to wait."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend_gpu.errors import IdempotencyConflict, QueueFull, RateLimited
from backend_gpu.jobs.blocklist import Blocklist
from backend_gpu.jobs.forecast import FULL_RETRY_S, Forecast
from backend_gpu.jobs.intake import Intake, Limits
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.retries import Claim, Refusals
from backend_gpu.jobs.slots import Slots
from backend_gpu.jobs.store import JobStore
from tests.backend_gpu.fake_engine import FakeEngine
from tests.backend_gpu.jobs.clock import Clock
from tests.backend_gpu.jobs.conftest import a_request

CLAIM = Claim(owner="anna", key="1", fingerprint="print")
ENGINE = FakeEngine()

MakeIntake = Callable[..., Intake]


@pytest.fixture
def make_intake(tmp_path: Path) -> Iterator[MakeIntake]:
    clock = Clock()
    with closing(JobStore(tmp_path / "jobs.sqlite3", clock)) as store:

        def make(queued_jobs: int = 100, jobs_per_owner: int = 100, quota_pictures: int = 100) -> Intake:
            limits = Limits(
                queued_jobs=queued_jobs,
                jobs_per_owner=jobs_per_owner,
                quota_pictures=quota_pictures,
                quota_window_s=60,
            )
            return Intake(store, Forecast(store, Slots(clock), max_batch_pictures=8), Blocklist(()), limits)

        yield make


def accept(intake: Intake, owner: str = "anna", key: str | None = None) -> Job:
    return intake.accept(ENGINE, a_request(owner=owner), Claim(owner=owner, key=key, fingerprint="print"))


def run_one(store: JobStore) -> Job:
    (job,) = store.claim(lambda waiting: waiting[:1])
    return job


# The same submission again


def test_the_same_key_and_request_give_the_same_job(make_intake: MakeIntake) -> None:
    intake = make_intake()
    job = accept(intake, key="1")
    assert accept(intake, key="1") == intake.store.find(CLAIM) == job
    assert intake.store.count("queued") == 1


def test_a_key_used_for_another_request_is_refused(make_intake: MakeIntake) -> None:
    intake = make_intake()
    accept(intake, key="1")
    other = Claim(owner="anna", key="1", fingerprint="another print")
    with pytest.raises(IdempotencyConflict):
        intake.accept(ENGINE, a_request(seed=2), other)
    with pytest.raises(IdempotencyConflict):
        intake.store.find(other)
    assert intake.store.count("queued") == 1


def test_a_key_finds_its_job_in_a_full_queue_and_beyond_the_quota(make_intake: MakeIntake) -> None:
    intake = make_intake(queued_jobs=1, jobs_per_owner=1, quota_pictures=1)
    assert accept(intake, key="1") == accept(intake, key="1")


def test_submissions_without_a_key_are_jobs_of_their_own(make_intake: MakeIntake) -> None:
    intake = make_intake()
    assert accept(intake).id != accept(intake).id


def test_one_key_from_many_threads_makes_one_job(make_intake: MakeIntake) -> None:
    intake = make_intake()
    found: list[Job] = []
    threads = [threading.Thread(target=lambda: found.append(accept(intake, key="1"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({job.id for job in found}) == intake.store.count("queued") == 1


def test_a_refusal_is_taken_by_one_retry_of_the_same_claim() -> None:
    refusals = Refusals()
    refusals.note(CLAIM)
    refusals.note(CLAIM)
    assert not refusals.take(Claim(owner="anna", fingerprint="another print"))
    assert [refusals.take(CLAIM) for _ in range(3)] == [True, True, False]


# Caps


def test_a_full_queue_takes_no_more_and_says_when_to_come_back(make_intake: MakeIntake) -> None:
    intake = make_intake(queued_jobs=2)
    for owner in ("anna", "ben"):
        accept(intake, owner)
    with pytest.raises(QueueFull, match=r"2 jobs wait, at most 2; try again in 30 s") as full:
        accept(intake, "cleo")
    assert full.value.retry_after_s == FULL_RETRY_S
    run_one(intake.store)
    accept(intake, "cleo")  # what runs does not wait


def test_a_full_queue_names_the_time_of_a_batch_once_it_was_measured(make_intake: MakeIntake) -> None:
    intake = make_intake(queued_jobs=1)
    for stage in ("base", "upsample"):
        intake.store.write_timing("kotoe-mini cpu", stage, 1, 0.5)
    intake.forecast.begin(ENGINE)
    accept(intake)
    seconds = intake.forecast.seconds_per_picture()
    assert seconds is not None
    with pytest.raises(QueueFull) as full:
        accept(intake)
    assert full.value.retry_after_s == pytest.approx(8 * seconds)
    assert re.search(rf"try again in {8 * seconds:.0f} s", str(full.value))


def test_an_owner_takes_no_more_than_their_share(make_intake: MakeIntake) -> None:
    intake = make_intake(jobs_per_owner=2)
    accept(intake)
    accept(intake)
    running = run_one(intake.store)
    with pytest.raises(RateLimited, match=r"2 jobs waiting or running, at most 2.*about 30 s") as limited:
        accept(intake)
    assert limited.value.retry_after_s == FULL_RETRY_S
    accept(intake, "ben")
    intake.store.succeed(running.id)
    accept(intake)  # the other one still waits
    with pytest.raises(RateLimited):
        accept(intake)

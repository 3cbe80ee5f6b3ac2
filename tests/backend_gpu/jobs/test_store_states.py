"""The store against a model in memory, in every order of calls that hypothesis thinks of."""

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backend_gpu.errors import InvalidTransition, JobNotFound
from backend_gpu.jobs.job import ENDED, JobError, JobStatus
from backend_gpu.jobs.store import JobStore
from tests.backend_gpu.jobs.clock import Clock
from tests.backend_gpu.jobs.conftest import a_request

MAX_ATTEMPTS = 2
KEEP_S = 60.0
OWNERS = st.sampled_from(["anna", "ben", "cleo"])
PICKS = st.integers(0, 30)  # which of the jobs there are


@dataclass
class Known:
    """What the model knows of a job."""

    id: str
    number: int
    owner: str
    status: JobStatus = "queued"
    attempts: int = 0
    finished_at: float | None = None
    is_delivered: bool = False
    endings: int = 0  # how often it came to an end


class StoreAgainstModel(RuleBasedStateMachine):
    """Adds, runs, ends, crashes and prunes jobs in a real store and in a list."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.known: list[Known] = []
        self.pruned: list[str] = []
        self.turn_of: dict[str, int] = {}
        self.numbers = itertools.count()
        self.opened: list[JobStore] = []
        self.reopen()

    def reopen(self) -> None:
        self.store = JobStore(Path(self.folder.name) / "jobs.sqlite3", self.clock)
        self.opened.append(self.store)

    def teardown(self) -> None:
        for store in self.opened:
            store.close()
        self.folder.cleanup()

    def of_status(self, *statuses: JobStatus) -> list[Known]:
        return [job for job in self.known if job.status in statuses]

    def expected_order(self) -> list[Known]:
        """Every owner's first job, by the owner's last turn; then every second one; and so on."""
        turns = dict.fromkeys((job.owner for job in self.known), 0)
        places = []
        for job in sorted(self.of_status("queued"), key=lambda job: job.number):
            turns[job.owner] += 1
            places.append((turns[job.owner], self.turn_of.get(job.owner, 0), job.number, job))
        return [job for *_, job in sorted(places, key=lambda place: place[:3])]

    def note_run(self, jobs: list[Known]) -> None:
        turn = max(self.turn_of.values(), default=0) + 1
        for job in jobs:
            job.status, job.attempts = "running", job.attempts + 1
            self.turn_of[job.owner] = turn

    def note_end(self, job: Known, status: JobStatus) -> None:
        job.status, job.finished_at, job.endings = status, self.clock.now, job.endings + 1

    @rule(owner=OWNERS)
    def add(self, owner: str) -> None:
        request = a_request(owner=owner)
        job = self.store.add(request)
        self.known.append(Known(job.id, next(self.numbers), owner))

    @rule(count=st.integers(1, 3))
    def claim(self, count: int) -> None:
        expected = self.expected_order()[:count]
        assert [job.id for job in self.store.claim(lambda waiting: waiting[:count])] == [job.id for job in expected]
        self.note_run(expected)

    @precondition(lambda self: self.of_status("queued"))
    @rule()
    def claim_fairly(self) -> None:
        waiting = self.of_status("queued")
        (claimed,) = self.store.claim(lambda jobs: jobs[:1])
        (job,) = (job for job in waiting if job.id == claimed.id)
        assert self.turn_of.get(job.owner, 0) == min(self.turn_of.get(other.owner, 0) for other in waiting)
        assert job.number == min(other.number for other in waiting if other.owner == job.owner)
        self.note_run([job])

    @precondition(lambda self: self.known)
    @rule(pick=PICKS, status=st.sampled_from(["succeeded", "failed"]))
    def finish(self, pick: int, status: JobStatus) -> None:
        job = self.known[pick % len(self.known)]

        def move() -> None:
            if status == "succeeded":
                self.store.succeed(job.id)
            else:
                self.store.fail(job.id, JobError("engine_failed", "it failed"))

        if job.status == "running":
            move()
            self.note_end(job, status)
        else:
            with pytest.raises(InvalidTransition):
                move()

    @precondition(lambda self: self.known)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        job = self.known[pick % len(self.known)]
        if job.status not in ENDED:
            self.note_end(job, "cancelled")
        assert self.store.cancel(job.id).status == job.status

    @precondition(lambda self: self.known)
    @rule(picks=st.lists(PICKS, min_size=1, max_size=3, unique=True))
    def put_back(self, picks: list[int]) -> None:
        jobs = [self.known[pick] for pick in picks if pick < len(self.known)]
        self.store.put_back([job.id for job in jobs])
        for job in jobs:
            if job.status == "running":
                job.status, job.attempts = "queued", job.attempts - 1

    @rule()
    def crash(self) -> None:
        self.reopen()
        running = self.of_status("running")
        spent = [job for job in running if job.attempts >= MAX_ATTEMPTS]
        waiting, failed = self.store.recover(MAX_ATTEMPTS)
        assert {job.id for job in failed} == {job.id for job in spent}
        assert {job.id for job in (*waiting, *failed)} == {job.id for job in running}
        for job in running:
            if job in spent:
                self.note_end(job, "failed")
            else:
                job.status = "queued"

    @precondition(lambda self: self.of_status("succeeded"))
    @rule(pick=PICKS)
    def deliver(self, pick: int) -> None:
        job = self.of_status("succeeded")[pick % len(self.of_status("succeeded"))]
        self.store.mark_delivered(job.id)
        job.is_delivered = True

    @rule()
    def prune(self) -> None:
        before = self.clock.now - KEEP_S
        gone = [
            job
            for job in self.known
            if (job.is_delivered or job.status in {"failed", "cancelled"}) and (job.finished_at or before) < before
        ]
        assert self.store.prune(KEEP_S) == len(gone)
        self.pruned += [job.id for job in gone]
        self.known = [job for job in self.known if job not in gone]
        owners = {job.owner for job in self.known}
        self.turn_of = {owner: turn for owner, turn in self.turn_of.items() if owner in owners}

    @rule(seconds=st.sampled_from([1.0, 45.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def nothing_is_lost_and_nothing_ends_twice(self) -> None:
        for job in self.known:
            stored = self.store.get(job.id)
            assert (stored.status, stored.attempts, stored.finished_at, stored.is_delivered) == (
                job.status,
                job.attempts,
                job.finished_at,
                job.is_delivered,
            )
            assert (stored.error is not None) == (stored.status == "failed")
            assert job.endings == (job.status in ENDED)
        for job_id in self.pruned:
            with pytest.raises(JobNotFound):
                self.store.get(job_id)

    @invariant()
    def the_queue_is_in_order(self) -> None:
        assert [job.id for job in self.store.waiting()] == [job.id for job in self.expected_order()]
        assert self.store.count("queued") == len(self.of_status("queued"))


StoreAgainstModel.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,  # a disk may take its time
    derandomize=True,
    database=None,
)
TestStoreAgainstModel = StoreAgainstModel.TestCase

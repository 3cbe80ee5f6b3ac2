"""An engine that draws several batches at once."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from backend_gpu.engine import Drawing
from backend_gpu.errors import StorageUnavailable
from backend_gpu.jobs.job import Job
from tests.backend_gpu.fake_engine import FakeEngine, picture
from tests.backend_gpu.jobs.conftest import MakeQueue, RunningQueue
from tests.backend_gpu.waiting import WAIT_S, wait_until


class TwoSlots(FakeEngine):
    """Draws two batches at once; each waits for its own steps."""

    info = replace(FakeEngine.info, slots=2)

    def __init__(self, spend: Callable[[float], None], clock: Callable[[], float]) -> None:
        super().__init__(spend=spend, clock=clock)
        self.steps_of: dict[str, float] = {}  # that a batch may still do, by the prompt of its first picture
        self.arrived: dict[str, int] = {}  # how often it came to a step
        self.fails: set[str] = set()  # whose next step fails

    def _step(self, stage: str, drawings: Sequence[Drawing]) -> None:
        prompt = drawings[0].prompt
        with self._gate:
            self.arrived[prompt] = self.arrived.get(prompt, 0) + 1
            self._gate.notify_all()
            assert self._gate.wait_for(lambda: self.steps_of.get(prompt, self._permits) > 0, WAIT_S)
            if prompt in self.steps_of:
                self.steps_of[prompt] -= 1
            if prompt in self.fails:
                raise RuntimeError("the engine failed")
            self.spend(self.step_s(stage, len(drawings)))

    def allow_steps(self, prompt: str, steps: float) -> None:
        """Let a batch do so many more steps, and wait until it wants to do the next."""
        with self._gate:
            wanted = self.arrived.get(prompt, 0) + steps
            self.steps_of[prompt] = self.steps_of.get(prompt, 0) + steps
            self._gate.notify_all()
            if steps < float("inf"):
                assert self._gate.wait_for(lambda: self.arrived.get(prompt, 0) >= wanted, WAIT_S)

    def release(self) -> None:
        """Let all steps of all batches happen."""
        with self._gate:
            self.steps_of.clear()
        super().release()


def engine_of(queue: RunningQueue) -> TwoSlots:
    assert isinstance(queue.engine, TwoSlots)
    return queue.engine


def both_submitted(queue: RunningQueue) -> tuple[Job, Job]:
    """Two jobs that can't share a batch, for an engine that does no step."""
    queue.engine.hold()
    return queue.submit(owner="anna", prompt="a"), queue.submit(owner="ben", prompt="b", steps=7)


def both_held(queue: RunningQueue) -> tuple[Job, Job]:
    """Likewise, each before its first step."""
    jobs = both_submitted(queue)
    wait_until(lambda: engine_of(queue).arrived.keys() >= {"a", "b"})
    return jobs


@pytest.fixture
def pair(make_queue: MakeQueue) -> RunningQueue:
    """A queue that runs with two slots."""
    queue = make_queue(engine=TwoSlots)
    queue.start()
    return queue


def assert_drawn(queue: RunningQueue, job: Job) -> None:
    pictures = queue.drawn(queue.wait_for(job, "succeeded"))
    assert np.array_equal(pictures, np.stack([picture(drawing) for drawing in job.request.drawings()]))


def test_two_batches_are_drawn_at_once_and_a_third_waits(pair: RunningQueue) -> None:
    first, second = both_held(pair)
    third = pair.submit(owner="cleo", prompt="c", steps=5)
    assert [pair.store.get(job.id).status for job in (first, second, third)] == ["running", "running", "queued"]
    assert pair.metric("kotoe_running_jobs") == 2
    assert pair.worker.slots.idle_s() == 0
    engine_of(pair).allow_steps("a", 3)
    progress = [pair.worker.slots.live(job.id).progress for job in (first, second, third)]
    assert [known and known.step for known in progress] == [3, None, None]
    engine_of(pair).allow_steps("b", float("inf"))  # its slot is free then, and the third one's turn
    wait_until(lambda: "c" in engine_of(pair).arrived)
    assert pair.store.get(first.id).status == "running"
    pair.engine.release()
    for job in (first, second, third):
        assert_drawn(pair, job)
    wait_until(lambda: pair.metric("kotoe_running_jobs") == 0)


def test_jobs_that_wait_when_the_model_is_loaded_fill_both_slots(make_queue: MakeQueue) -> None:
    queue = make_queue(engine=TwoSlots, idle_wait_s=2 * WAIT_S)
    jobs = both_submitted(queue)
    queue.start()
    wait_until(lambda: engine_of(queue).arrived.keys() == {"a", "b"})
    queue.engine.release()
    for job in jobs:
        assert_drawn(queue, job)


def test_many_jobs_keep_both_slots_busy_though_none_looks_by_itself(make_queue: MakeQueue) -> None:
    queue = make_queue(engine=TwoSlots, idle_wait_s=2 * WAIT_S)
    queue.start()
    jobs = [queue.submit(owner=f"owner{number}", steps=1 + number) for number in range(20)]
    for job in jobs:
        assert queue.wait_for(job).status == "succeeded"


def test_one_batch_is_cancelled_without_the_other(pair: RunningQueue) -> None:
    first, second = both_held(pair)
    pair.worker.cancel(first.id)
    engine_of(pair).allow_steps("a", float("inf"))
    wait_until(lambda: len(pair.worker.slots.batches) == 1)
    assert engine_of(pair).arrived["a"] == 1
    assert pair.store.get(second.id).status == "running"
    pair.engine.release()
    assert_drawn(pair, second)
    assert pair.store.get(first.id).status == "cancelled"


def test_an_engine_error_of_one_batch_fails_only_its_jobs(pair: RunningQueue) -> None:
    first, second = both_held(pair)
    engine_of(pair).fails.add("a")
    engine_of(pair).allow_steps("a", float("inf"))
    error = pair.wait_for(first).error
    assert error is not None
    assert error.code == "engine_failed"
    pair.engine.release()
    assert_drawn(pair, second)


def test_a_stop_lets_both_batches_finish(pair: RunningQueue) -> None:
    jobs = both_held(pair)
    waiting = pair.submit(owner="cleo", prompt="c", steps=5)
    stopping = threading.Thread(target=pair.worker.stop, args=(WAIT_S,))
    stopping.start()
    wait_until(pair.worker.slots.stopping.is_set)
    pair.engine.release()
    stopping.join()
    assert [pair.store.get(job.id).status for job in jobs] == ["succeeded", "succeeded"]
    assert pair.store.get(waiting.id).status == "queued"


def test_a_stop_puts_both_batches_back(pair: RunningQueue) -> None:
    jobs = both_held(pair)
    stopping = threading.Thread(target=pair.worker.stop, args=(0.0,))
    stopping.start()
    wait_until(pair.worker.slots.aborting.is_set)
    pair.engine.release()
    stopping.join()
    put_back = [pair.store.get(job.id) for job in jobs]
    assert [(job.status, job.attempts) for job in put_back] == [("queued", 0)] * 2


def test_batches_that_hang_are_put_back_too(make_queue: MakeQueue) -> None:
    queue = make_queue(engine=TwoSlots, abort_s=0.01)
    queue.start()
    jobs = both_held(queue)
    queue.worker.stop(grace_s=0.0)
    assert len(queue.worker.slots.batches) == 2
    put_back = [queue.store.get(job.id) for job in jobs]
    assert [(job.status, job.attempts) for job in put_back] == [("queued", 0)] * 2
    queue.engine.release()
    wait_until(lambda: not queue.worker.slots.batches)
    assert [queue.store.get(job.id) for job in jobs] == put_back


def test_owners_take_turns_over_both_slots(pair: RunningQueue) -> None:
    pair.engine.hold()
    for owner, prompt, steps in (("hog", "h1", 1), ("hog", "h2", 2), ("hog", "h3", 3), ("hog", "h4", 4)):
        pair.submit(owner=owner, prompt=prompt, steps=steps)
    wait_until(lambda: engine_of(pair).arrived.keys() == {"h1", "h2"})
    pair.submit(owner="modest", prompt="m", steps=5)
    engine_of(pair).allow_steps("h1", float("inf"))
    wait_until(lambda: len(engine_of(pair).arrived) == 3)
    assert engine_of(pair).arrived.keys() == {"h1", "h2", "m"}


def test_a_slot_that_waits_for_the_disk_is_reported_though_the_other_goes_on(pair: RunningQueue) -> None:
    first, second = both_held(pair)
    pair.pictures.folder.write_text("not a folder")
    engine_of(pair).allow_steps("a", float("inf"))
    wait_until(lambda: any(slot.storage_error for slot in pair.worker.slots.slots))
    engine_of(pair).allow_steps("b", 3)
    with pytest.raises(StorageUnavailable, match="can't keep the pictures"):
        pair.worker.slots.check()
    pair.pictures.folder.unlink()
    pair.engine.release()
    for job in (first, second):
        assert_drawn(pair, job)
    pair.worker.slots.check()


def test_the_expected_times_count_both_slots(make_queue: MakeQueue) -> None:
    queue = make_queue(engine=TwoSlots)
    for stage, seconds in (("base", 1.0), ("upsample", 2.0)):
        queue.store.write_timing("kotoe-mini cpu", stage, 2 if stage == "base" else 1, seconds)
    queue.start()
    first, second = both_held(queue)  # 10 and 7 steps of a second, then 5 of two
    load = [queue.submit(owner=f"owner{steps}", prompt=f"{steps}", steps=steps) for steps in (1, 2, 3)]
    assert [queue.eta_s(job) for job in (first, second)] == [20, 17]
    # The first follows the second slot's batch after 17 s, the next the first slot's after 20 s, the last after 28 s
    assert [queue.eta_s(job) for job in load] == pytest.approx([17 + 11, 20 + 12, 28 + 13])
    engine_of(queue).allow_steps("a", 9)
    queue.worker.cancel(second.id)
    engine_of(queue).allow_steps("b", float("inf"))
    wait_until(lambda: "1" in engine_of(queue).arrived)  # in the slot that is free now
    assert [queue.eta_s(job) for job in (first, *load)] == pytest.approx([11, 11, 11 + 12, 11 + 13])

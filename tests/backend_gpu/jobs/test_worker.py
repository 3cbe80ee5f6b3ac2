import io
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend_gpu.engine import Drawing, Engine, Pixels
from backend_gpu.errors import CheckpointError, JobNotFound, StorageUnavailable
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.pictures import Pictures
from tests.backend_gpu.fake_engine import FakeEngine, picture
from tests.backend_gpu.jobs.conftest import MakeQueue, RunningQueue, read_only, unreadable
from tests.backend_gpu.waiting import WAIT_S, wait_until


def alone(job: Job) -> Pixels:
    """What a job's pictures are if nothing else is drawn."""
    return np.stack([picture(drawing) for drawing in job.request.drawings()])


def preview_of(queue: RunningQueue, job: Job) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(queue.worker.slots.live(job.id).preview or b"")))


def sheet(drawings: Sequence[Drawing]) -> Pixels:
    """Up to four pictures side by side, as the base model has drawn them."""
    return np.concatenate([picture(drawing, side=64) for drawing in drawings], 1)


def sizes(queue: RunningQueue) -> list[int]:
    return [len(batch) for batch in queue.engine.batches]


# From a job to pictures


def test_a_lone_job_runs_at_once(make_queue: MakeQueue) -> None:
    queue = make_queue(idle_wait_s=2 * WAIT_S)  # it has to be woken
    queue.start()
    job = queue.run(n=3, seed=2**32 - 2)
    assert job.status == "succeeded"
    assert sizes(queue) == [3]
    assert np.array_equal(queue.drawn(job), alone(job))


def test_every_picture_tells_its_own_seed(queue: RunningQueue) -> None:
    job = queue.run(n=3, seed=2**32 - 2)
    seeds = []
    for index in range(3):
        with Image.open(io.BytesIO(queue.pictures.read(job, index) or b"")) as image:
            seeds.append(image.info["parameters"].split("Seed: ")[1].split(",")[0])
    assert seeds == ["4294967294", "4294967295", "0"]


def test_finished_pictures_move_to_the_gallery(queue: RunningQueue) -> None:
    job = queue.run(n=2)
    wait_until(lambda: not (queue.pictures.folder / job.id).exists())
    assert len(queue.delivered()) == 2
    assert queue.store.get(job.id).is_delivered
    assert np.array_equal(queue.drawn(job), alone(job))


def test_progress_grows_over_both_stages_up_to_the_whole(queue: RunningQueue) -> None:
    job = queue.submit_held(steps=4, upsample_steps=2)
    assert queue.worker.slots.live(job.id).progress is None
    seen = []
    for _ in range(5):
        queue.engine.allow(1)
        progress = queue.worker.slots.live(job.id).progress
        assert progress is not None
        seen.append((progress.stage, progress.step, progress.total_steps))
        assert progress.fraction == pytest.approx(len(seen) / 6)  # by steps, as nothing was measured yet
    assert seen == [*[("base", step, 4) for step in (1, 2, 3, 4)], ("upsample", 1, 2)]
    queue.engine.release()
    queue.wait_for(job)
    wait_until(lambda: queue.worker.slots.live(job.id).progress is None)


@pytest.mark.parametrize(("steps", "upsample_steps"), [(5, 1), (9, 4), (20, 4), (50, 10), (27, 0)])
def test_a_job_shows_at_least_five_previews(queue: RunningQueue, steps: int, upsample_steps: int) -> None:
    upscale = {"upscale": False} if not upsample_steps else {"upsample_steps": upsample_steps}
    job = queue.submit_held(steps=steps, **upscale)
    previews = set()
    for _ in range(steps + upsample_steps - 1):
        queue.engine.allow(1)
        previews.add(queue.worker.slots.live(job.id).preview)
    assert len(previews - {None}) >= 5


def test_slow_steps_show_a_preview_each(queue: RunningQueue) -> None:
    queue.engine.step_s = lambda _stage, _pictures: 1.5
    job = queue.submit_held(steps=40)
    previews = set()
    for _ in range(10):
        queue.engine.allow(1)
        previews.add(queue.worker.slots.live(job.id).preview)
    assert len(previews - {None}) == 10


def test_quick_steps_are_told_together(queue: RunningQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.engine.step_s = lambda _stage, _pictures: 0.02
    queue.submit_held(steps=100, upscale=False)
    published: list[str] = []
    monkeypatch.setattr(queue.feed, "publish", lambda *job_ids: published.extend(job_ids))
    queue.engine.allow(18)  # the next one shows a preview
    assert len(published) == 6


def test_a_preview_shows_the_jobs_own_pictures(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.engine.hold()
    others, job = queue.submit(n=2, owner="ben", steps=5), queue.submit(n=3, owner="anna", seed=50, steps=5)
    queue.start()
    queue.engine.wait_for_step()
    queue.engine.allow(5)
    assert np.array_equal(preview_of(queue, others), sheet(others.request.drawings()))
    assert np.array_equal(preview_of(queue, job), sheet(job.request.drawings()))


# Batches


def test_jobs_that_are_alike_share_a_batch_and_others_wait(make_queue: MakeQueue) -> None:
    queue = make_queue()
    alike = [queue.submit(owner=owner, seed=seed, n=2) for seed, owner in enumerate(("anna", "ben", "cleo"))]
    other = queue.submit(owner="dora", steps=7)
    queue.start()
    ended = [queue.wait_for(job) for job in (*alike, other)]
    assert sizes(queue) == [6, 1]
    for job in ended:
        assert np.array_equal(queue.drawn(job), alone(job))


def test_more_pictures_than_a_batch_holds_are_drawn_in_chunks(make_queue: MakeQueue) -> None:
    queue = make_queue(max_batch_pictures=3)
    queue.start()
    job = queue.submit_held(n=8, steps=5)
    fractions, previews = [], set()
    for _ in range(29):
        queue.engine.allow(1)
        live = queue.worker.slots.live(job.id)
        assert live.progress is not None
        fractions.append(live.progress.fraction)
        previews.add(live.preview)
    queue.engine.release()
    assert np.array_equal(queue.drawn(queue.wait_for(job)), alone(job))
    assert sizes(queue) == [3, 3, 2]
    assert fractions == sorted(fractions)
    assert fractions[9] == pytest.approx(3 / 8)


def test_a_chunk_may_hold_parts_of_several_jobs(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.engine.memory_pictures = 4
    jobs = [queue.submit(owner=owner, n=n, seed=10 * n) for owner, n in (("anna", 3), ("ben", 3), ("cleo", 2))]
    queue.engine.hold()
    queue.start()
    queue.engine.wait_for_step()
    queue.engine.allow(25)  # the first chunk, and the base model's steps of the second
    shown = [preview_of(queue, job) for job in jobs]
    for preview, drawings in zip(shown[1:], (jobs[1].request.drawings()[1:], jobs[2].request.drawings()), strict=True):
        assert np.array_equal(preview, sheet(drawings))
    assert shown[0].shape == (64, 3 * 64, 3)  # as the first chunk left it
    queue.engine.release()
    for job in jobs:
        assert np.array_equal(queue.drawn(queue.wait_for(job)), alone(job))
    assert sizes(queue) == [8, 4, 4]


# Cancelling


def test_a_queued_job_is_cancelled_and_never_drawn(queue: RunningQueue) -> None:
    running = queue.submit_held()
    waiting = queue.submit(steps=7)
    assert queue.worker.cancel(waiting.id).status == "cancelled"
    queue.engine.release()
    queue.wait_for(running)
    queue.run()
    assert all(len(batch) == 1 for batch in queue.engine.batches)
    assert len(queue.engine.batches) == 2
    assert queue.store.get(waiting.id).attempts == 0


def test_a_running_job_is_cancelled_within_a_step_and_leaves_the_engine(queue: RunningQueue) -> None:
    job = queue.submit_held()
    queue.engine.allow(3)
    assert queue.worker.cancel(job.id).status == "cancelled"
    queue.engine.allow(1)
    assert not queue.engine.is_drawing
    assert queue.engine.steps == 4
    queue.engine.release()
    assert queue.run().status == "succeeded"
    assert queue.store.get(job.id).status == "cancelled"
    assert not (queue.pictures.folder / job.id).exists()
    wait_until(lambda: len(queue.delivered()) == 1)


def test_cancelling_one_of_a_batch_leaves_the_others_as_they_are(make_queue: MakeQueue) -> None:
    queue = make_queue()
    jobs = [queue.submit(owner=owner, seed=seed, n=2) for seed, owner in enumerate(("anna", "ben", "cleo"))]
    queue.engine.hold()
    queue.start()
    queue.engine.wait_for_step()
    queue.engine.allow(2)
    queue.worker.cancel(jobs[1].id)
    queue.engine.release()
    for job in (jobs[0], jobs[2]):
        assert np.array_equal(queue.drawn(queue.wait_for(job)), alone(job))
    assert queue.store.get(jobs[1].id).status == "cancelled"
    assert queue.delivered("ben") == []


def test_a_batch_ends_when_all_its_jobs_are_cancelled(make_queue: MakeQueue) -> None:
    queue = make_queue()
    jobs = [queue.submit(owner=owner) for owner in ("anna", "ben")]
    queue.engine.hold()
    queue.start()
    queue.engine.wait_for_step()
    for job in jobs:
        queue.worker.cancel(job.id)
        queue.engine.allow(1)
    assert not queue.engine.is_drawing
    assert queue.engine.steps == 2


class CancelledWhileKept(Pictures):
    """A disk so slow that the user has cancelled before everything is written."""

    cancel: Callable[[str], object]

    def keep(self, job: Job, pngs: Sequence[bytes]) -> None:
        super().keep(job, pngs)
        self.cancel(job.id)


def test_a_job_cancelled_while_its_pictures_are_written_leaves_none(make_queue: MakeQueue) -> None:
    queue = make_queue(pictures=CancelledWhileKept)
    assert isinstance(queue.pictures, CancelledWhileKept)
    queue.pictures.cancel = queue.worker.cancel
    queue.start()
    job = queue.run()
    assert job.status == "cancelled"
    wait_until(lambda: not (queue.pictures.folder / job.id).exists())
    assert queue.delivered() == []
    assert queue.metric("kotoe_jobs_total", outcome="cancelled") == 1
    assert queue.metric("kotoe_jobs_total", outcome="succeeded") == 0


def test_cancelling_twice_or_too_late_counts_and_changes_nothing(queue: RunningQueue) -> None:
    job = queue.run()
    assert queue.worker.cancel(job.id) == queue.store.get(job.id)
    queued = queue.submit_held()
    threads = [threading.Thread(target=queue.worker.cancel, args=(queued.id,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.metric("kotoe_jobs_total", outcome="cancelled") == 1
    with pytest.raises(JobNotFound):
        queue.worker.cancel("0" * 32)


# What goes wrong in the engine


def test_out_of_memory_halves_the_batch(queue: RunningQueue) -> None:
    queue.engine.memory_pictures = 3
    job = queue.run(n=7)
    assert sizes(queue) == [7, 4, 2, 2, 3]
    assert job.status == "succeeded"
    assert np.array_equal(queue.drawn(job), alone(job))


def test_out_of_memory_for_a_single_picture_fails_the_job(queue: RunningQueue) -> None:
    queue.engine.memory_pictures = 0
    job = queue.run(n=4)
    assert sizes(queue) == [4, 2, 1]
    assert job.error is not None
    assert (job.status, job.error.code) == ("failed", "out_of_memory")
    assert "1 pictures do not fit" in job.error.message
    queue.engine.memory_pictures = 8
    assert queue.run().status == "succeeded"


def test_an_engine_error_fails_the_batch_and_not_the_next_one(make_queue: MakeQueue) -> None:
    queue = make_queue()
    jobs = [queue.submit(owner=owner) for owner in ("anna", "ben")]
    other = queue.submit(owner="cleo", steps=7)
    queue.engine.failure = RuntimeError("CUDA error: of the prompt's making")
    queue.start()
    for job in jobs:
        error = queue.wait_for(job).error
        assert error is not None
        assert error.code == "engine_failed"
        assert "CUDA" not in error.message  # the log has it
    assert queue.wait_for(other).status == "succeeded"
    assert queue.worker.slots.live(jobs[0].id).progress is None


class BreaksAtTheSecondJob(Pictures):
    def keep(self, job: Job, pngs: Sequence[bytes]) -> None:
        if job.request.owner == "ben":
            raise RuntimeError("this should never happen")
        super().keep(job, pngs)


def test_a_job_that_has_succeeded_is_delivered_though_its_batch_fails(make_queue: MakeQueue) -> None:
    queue = make_queue(pictures=BreaksAtTheSecondJob)
    jobs = [queue.submit(owner=owner) for owner in ("anna", "ben")]
    queue.start()
    assert [queue.wait_for(job).status for job in jobs] == ["succeeded", "failed"]
    wait_until(lambda: queue.store.get(jobs[0].id).is_delivered)


def test_a_job_cancelled_before_the_engine_failed_stays_cancelled(make_queue: MakeQueue) -> None:
    queue = make_queue()
    jobs = [queue.submit(owner=owner) for owner in ("anna", "ben")]
    queue.engine.hold()
    queue.start()
    queue.engine.wait_for_step()
    queue.worker.cancel(jobs[0].id)
    queue.engine.failure = RuntimeError("the engine failed")
    queue.engine.release()
    assert queue.wait_for(jobs[1]).status == "failed"
    assert queue.store.get(jobs[0].id).status == "cancelled"
    wait_until(lambda: queue.metric("kotoe_jobs_total", outcome="failed") == 1)


def test_a_job_for_a_model_that_is_not_here_any_more_fails_and_says_so(queue: RunningQueue) -> None:
    job = queue.run(model="glide")
    assert job.error is not None
    assert job.error.code == "model_not_found"
    assert "glide" in job.error.message
    assert "kotoe-mini" in job.error.message
    assert queue.engine.batches == []


# Loading


def test_a_load_failure_is_told_and_tried_again(make_queue: MakeQueue) -> None:
    queue = make_queue()
    job = queue.submit()
    go_on = threading.Semaphore(0)
    errors = iter([CheckpointError("the weights are missing: run make weights"), RuntimeError("secrets of torch")])

    def open_engine() -> Engine:
        assert go_on.acquire(timeout=WAIT_S)
        for error in errors:
            raise error
        return queue.engine

    queue.start(open_engine)
    assert not queue.worker.is_ready
    go_on.release()
    wait_until(lambda: queue.worker.load_error == "the weights are missing: run make weights")
    go_on.release()
    wait_until(lambda: queue.worker.load_error == "the model could not be loaded")
    assert queue.store.get(job.id).status == "queued"
    go_on.release()
    assert queue.wait_for(job).status == "succeeded"
    assert queue.worker.load_error == ""
    assert queue.worker.is_ready


def test_an_engine_that_cannot_draw_is_not_ready(make_queue: MakeQueue) -> None:
    queue = make_queue()

    class Broken(FakeEngine):
        def generate(self, *_: object) -> Any:
            raise RuntimeError("no kernel image is available")

    queue.start(lambda: Broken())
    wait_until(lambda: queue.worker.load_error)
    assert not queue.worker.is_ready


# Stopping and starting again


def test_stopping_lets_the_batch_finish(queue: RunningQueue) -> None:
    job = queue.submit_held()
    waiting = queue.submit(steps=7)
    stopping = threading.Thread(target=queue.worker.stop, args=(WAIT_S,))
    stopping.start()
    wait_until(queue.worker.slots.stopping.is_set)
    queue.engine.release()
    stopping.join()
    assert queue.store.get(job.id).status == "succeeded"
    assert queue.store.get(waiting.id).status == "queued"


def test_a_batch_that_takes_too_long_waits_again_and_no_attempt_is_counted(make_queue: MakeQueue) -> None:
    queue = make_queue()
    jobs = [queue.submit(owner=owner, n=2) for owner in ("anna", "ben", "cleo")]
    queue.engine.hold()
    queue.start()
    queue.engine.wait_for_step()
    queue.worker.cancel(jobs[1].id)
    stopping = threading.Thread(target=queue.worker.stop, args=(0.0,))
    stopping.start()
    wait_until(queue.worker.slots.aborting.is_set)
    queue.engine.allow(1)
    stopping.join()
    assert queue.engine.steps == 1
    assert [queue.store.get(job.id).status for job in jobs] == ["queued", "cancelled", "queued"]
    assert [queue.store.get(jobs[index].id).attempts for index in (0, 2)] == [0, 0]

    again = make_queue()
    again.start()
    for job in (jobs[0], jobs[2]):
        assert np.array_equal(again.drawn(again.wait_for(job)), alone(job))


def test_an_engine_that_hangs_in_a_step_does_not_keep_the_service_from_stopping(make_queue: MakeQueue) -> None:
    queue = make_queue(abort_s=0.01)
    queue.start()
    job = queue.submit_held()
    queue.worker.stop(grace_s=0.0)
    assert queue.engine.is_drawing
    waiting = queue.store.get(job.id)
    assert (waiting.status, waiting.attempts) == ("queued", 0)
    queue.engine.release()
    wait_until(lambda: not queue.engine.is_drawing)
    assert queue.store.get(job.id) == waiting


def test_a_service_that_loads_can_be_stopped(make_queue: MakeQueue) -> None:
    queue = make_queue()
    job = queue.submit()
    loaded = threading.Event()

    def open_engine() -> Engine:
        assert loaded.wait(WAIT_S)
        return queue.engine

    queue.start(open_engine)
    queue.worker.stop(grace_s=10 * WAIT_S)  # nothing runs that could use it
    loaded.set()
    for thread in queue.worker._threads:
        thread.join(WAIT_S)
    assert queue.store.get(job.id).status == "queued"
    assert queue.engine.batches == []


def test_what_a_crash_interrupted_runs_again_and_leaves_no_half_run(make_queue: MakeQueue) -> None:
    crashed = make_queue()  # it claims and writes, and is never heard of again
    job = crashed.submit(n=2)
    crashed.store.claim(lambda waiting: waiting)
    crashed.pictures.keep(job, [b"only the first picture"])
    (crashed.pictures.folder / job.id / ".1.png.0.new").write_bytes(b"half a pict")
    other = crashed.pictures.folder / ("f" * 32)
    other.mkdir()

    queue = make_queue()
    queue.engine.hold()
    queue.start()
    queue.engine.wait_for_step()
    assert list(queue.pictures.folder.iterdir()) == []
    queue.engine.release()
    ended = queue.wait_for(job)
    assert (ended.status, ended.attempts) == ("succeeded", 2)
    assert np.array_equal(queue.drawn(ended), alone(job))


def test_a_job_that_ends_the_process_again_and_again_fails(make_queue: MakeQueue) -> None:
    crashed = make_queue()
    job = crashed.submit()
    crashed.store.claim(lambda waiting: waiting)
    crashed.store.recover(max_attempts=2)
    crashed.store.claim(lambda waiting: waiting)
    queue = make_queue()
    queue.start()
    error = queue.wait_for(job).error
    assert error is not None
    assert error.code == "engine_crashed"
    assert queue.engine.batches == []
    assert queue.metric("kotoe_jobs_total", outcome="failed") == 1


def test_every_interrupted_job_is_told_with_its_request(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    crashed = make_queue()
    twice, once = crashed.submit(owner="anna"), crashed.submit(owner="ben")
    crashed.store.claim(lambda waiting: [job for job in waiting if job.id == twice.id])
    crashed.store.recover(max_attempts=2)
    crashed.store.claim(lambda waiting: waiting)
    queue = make_queue()
    queue.engine.hold()
    queue.start()
    assert [(line.msg, line.job_id, line.request_id) for line in caplog.records] == [  # type: ignore[attr-defined] # from extra
        ("job interrupted: it waits again", once.id, "request of ben"),
        ("job failed", twice.id, "request of anna"),
    ]


# Disks and galleries that fail


def test_pictures_that_the_disk_refuses_are_kept_until_it_takes_them(queue: RunningQueue) -> None:
    job = queue.submit_held()
    queue.pictures.folder.write_text("not a folder")
    queue.engine.release()
    wait_until(lambda: queue.engine.steps == 15 and not queue.engine.is_drawing)
    time.sleep(0.05)  # several tries
    assert queue.store.get(job.id).status == "running"
    queue.pictures.folder.unlink()
    assert np.array_equal(queue.drawn(queue.wait_for(job)), alone(job))
    assert sizes(queue) == [1]


def test_a_worker_that_waits_for_the_disk_says_so_until_it_goes_on(
    queue: RunningQueue, caplog: pytest.LogCaptureFixture
) -> None:
    job = queue.submit_held()
    queue.worker.slots.check()
    queue.pictures.folder.write_text("not a folder")
    queue.engine.release()
    wait_until(lambda: caplog.records)
    with pytest.raises(StorageUnavailable, match="can't keep the pictures"):
        queue.worker.slots.check()
    line = caplog.records[0]
    assert (line.job_id, line.request_id) == (job.id, "request of anna")  # type: ignore[attr-defined] # from extra
    assert "can't keep the pictures" in line.reason  # type: ignore[attr-defined] # from extra
    queue.pictures.folder.unlink()
    queue.run()
    queue.worker.slots.check()


def test_a_job_whose_end_cannot_be_written_ends_when_it_can(queue: RunningQueue) -> None:
    queue.engine.step_s = lambda _stage, _pictures: 0.5
    job = queue.submit_held()
    with read_only(queue.store):
        queue.engine.release()
        wait_until(lambda: queue.engine.steps == 15 and not queue.engine.is_drawing)
        time.sleep(0.05)
        assert queue.store.get(job.id).status == "running"
    assert np.array_equal(queue.drawn(queue.wait_for(job)), alone(job))
    assert sizes(queue) == [1]  # a time that can't be written down either did not end it


def test_a_failure_that_cannot_be_written_is_told_when_it_can(queue: RunningQueue) -> None:
    job = queue.submit_held()
    queue.engine.failure = RuntimeError("the engine failed")
    with read_only(queue.store):
        queue.engine.release()
        wait_until(lambda: not queue.engine.is_drawing)
        time.sleep(0.05)
    assert queue.wait_for(job).status == "failed"


def test_a_job_cancelled_while_the_disk_is_full_holds_up_nobody(queue: RunningQueue) -> None:
    job = queue.submit_held()
    queue.pictures.folder.write_text("not a folder")
    queue.engine.release()
    wait_until(lambda: queue.engine.steps == 15 and not queue.engine.is_drawing)
    queue.worker.cancel(job.id)
    wait_until(lambda: not queue.worker.slots.batches)
    queue.pictures.folder.unlink()
    assert queue.run().status == "succeeded"
    assert queue.store.get(job.id).status == "cancelled"


def test_a_disk_error_does_not_cut_off_a_running_batch(queue: RunningQueue) -> None:
    job = queue.submit_held()
    with unreadable(queue.store):
        queue.engine.allow(2)
        assert queue.engine.is_drawing
    queue.engine.release()
    ended = queue.wait_for(job)
    assert (ended.status, ended.attempts) == ("succeeded", 1)
    assert np.array_equal(queue.drawn(ended), alone(job))
    assert sizes(queue) == [1]


def test_a_mistake_of_ours_does_not_end_the_worker(queue: RunningQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failed = threading.Event()

        def fail(_: object) -> list[Job]:
            failed.set()
            raise TypeError("a mistake")

        patch.setattr(queue.store, "claim", fail)
        queue.worker.notify()
        assert failed.wait(WAIT_S)
    assert queue.run().status == "succeeded"


def test_waiting_for_the_disk_is_not_learned_as_time_to_finish(
    queue: RunningQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.engine.step_s = lambda _stage, _pictures: 0.5
    keep = queue.pictures.keep

    def refuse_once(*_: object) -> None:
        monkeypatch.setattr(queue.pictures, "keep", keep)
        queue.clock.advance(600)
        raise StorageUnavailable("full")

    monkeypatch.setattr(queue.pictures, "keep", refuse_once)
    queue.run()
    assert (queue.worker.forecast.seconds_per_picture() or 0.0) < 60
    assert queue.metric("kotoe_stage_seconds_count", stage="finish") == 0


def test_a_worker_whose_disk_fails_between_batches_goes_on_when_it_is_back(queue: RunningQueue) -> None:
    with unreadable(queue.store):
        queue.worker.notify()
        time.sleep(0.05)
    assert queue.run().status == "succeeded"


def test_stopping_on_a_full_disk_loses_nothing(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.start()
    job = queue.submit_held()
    with read_only(queue.store):
        queue.engine.release()
        queue.worker.stop(grace_s=WAIT_S)
    again = make_queue()
    again.start()
    assert np.array_equal(again.drawn(again.wait_for(job)), alone(job))


def test_pictures_stay_here_while_the_gallery_is_down(queue: RunningQueue) -> None:
    gallery = queue.folder / "gallery"
    gallery.write_text("not a folder")
    job = queue.run(n=2)
    time.sleep(0.05)
    assert job.status == "succeeded"
    assert not queue.store.get(job.id).is_delivered
    assert np.array_equal(queue.drawn(job), alone(job))
    gallery.unlink()
    wait_until(lambda: queue.store.get(job.id).is_delivered)
    assert len(queue.delivered()) == 2
    assert np.array_equal(queue.drawn(job), alone(job))


def test_pictures_that_wait_for_the_gallery_survive_a_restart(make_queue: MakeQueue) -> None:
    queue = make_queue()
    (queue.folder / "gallery").write_text("not a folder")
    queue.start()
    job = queue.run(n=2)
    queue.stop()
    again = make_queue()
    again.start()
    assert np.array_equal(again.drawn(job), alone(job))
    (queue.folder / "gallery").unlink()
    wait_until(lambda: again.store.get(job.id).is_delivered)
    assert np.array_equal(again.drawn(job), alone(job))
    assert again.engine.batches == []


def test_a_delivery_cut_off_before_it_was_noted_changes_nothing(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.start()
    job = queue.run()
    wait_until(lambda: queue.store.get(job.id).is_delivered)
    queue.stop()
    again = make_queue()
    png = again.pictures.gallery.read("anna", queue.delivered()[0])
    again.store.database.connection.execute("UPDATE jobs SET is_delivered = 0")
    again.pictures.keep(job, [png or b""])
    again.start()
    wait_until(lambda: again.store.get(job.id).is_delivered)
    assert len(again.delivered()) == 1
    assert np.array_equal(again.drawn(job), alone(job))


def test_a_job_whose_pictures_somebody_took_away_holds_up_no_other(make_queue: MakeQueue) -> None:
    queue = make_queue()
    gallery = queue.folder / "gallery"
    gallery.write_text("not a folder")
    queue.start()
    robbed, other = queue.run(), queue.run(owner="ben")
    (queue.pictures.folder / robbed.id / "0.png").unlink()
    gallery.unlink()
    wait_until(lambda: queue.store.get(other.id).is_delivered)
    assert np.array_equal(queue.drawn(other), alone(other))
    assert queue.pictures.read(queue.store.get(robbed.id), 0) is None


def test_a_gallery_that_hangs_does_not_keep_the_service_from_stopping(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(delivery_stop_s=0.01)
    queue.start()
    arrived, answer = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        arrived.set()
        assert answer.wait(WAIT_S)

    monkeypatch.setattr(queue.pictures.gallery, "write", hang)
    queue.run()
    assert arrived.wait(WAIT_S)
    queue.worker.stop(grace_s=WAIT_S)
    answer.set()


def test_ended_jobs_are_forgotten_after_a_while(queue: RunningQueue) -> None:
    old = queue.run()
    wait_until(lambda: queue.store.get(old.id).is_delivered)
    queue.clock.advance(3601)
    young = queue.run()
    wait_until(lambda: queue.store.of_owner("anna", 10) == [queue.store.get(young.id)])
    assert len(queue.delivered()) >= 1  # its picture stays


# How long it will take

SPEEDS: dict[str, Callable[[str, int], float]] = {
    "every picture costs the same": lambda stage, pictures: pictures * {"base": 0.1, "upsample": 0.4}[stage],
    "every step costs the same": lambda stage, _: {"base": 0.1, "upsample": 0.4}[stage],
    "a step costs something and a picture too": lambda stage, pictures: (
        (0.2 + 0.05 * pictures) * {"base": 1.0, "upsample": 3.0}[stage]
    ),
}


@pytest.mark.parametrize("speed", SPEEDS.values(), ids=SPEEDS.keys())
def test_after_ten_jobs_it_is_known_how_long_the_next_ones_take(
    make_queue: MakeQueue, speed: Callable[[str, int], float]
) -> None:
    queue = make_queue()
    queue.engine.step_s = speed
    queue.start()
    ten = [queue.submit_held(), *(queue.submit(owner=f"owner{index}") for index in range(9))]
    queue.engine.release()
    for job in ten:
        queue.wait_for(job)
    assert sizes(queue) == [1, 8, 1]

    running = queue.submit_held(owner="anna")
    load = [queue.submit(owner=owner, n=n) for owner, n in (("ben", 3), ("cleo", 2), ("dora", 2), ("emil", 4))]
    other = queue.submit(owner="fred", steps=30)
    queue.engine.allow(12)
    asked_at = queue.clock.now
    expected = {job.id: queue.eta_s(job) for job in (running, *load, other)}
    queue.engine.release()
    for job in (running, *load, other):
        ended = queue.wait_for(job)
        assert ended.finished_at is not None
        assert expected[job.id] == pytest.approx(ended.finished_at - asked_at, rel=0.3)


@pytest.mark.parametrize("speed", SPEEDS.values(), ids=SPEEDS.keys())
def test_after_ten_small_jobs_it_is_known_how_long_larger_ones_take(
    make_queue: MakeQueue, speed: Callable[[str, int], float]
) -> None:
    queue = make_queue()
    queue.engine.step_s = speed
    queue.start()
    for index in range(10):
        queue.run(n=1 + index % 2, steps=10 + index)
    running = queue.submit_held(n=4)
    load = [
        queue.submit(owner=owner, **fields)
        for owner, fields in (("ben", {"n": 8}), ("cleo", {"n": 3, "steps": 40}), ("dora", {"n": 6, "upscale": False}))
    ]
    queue.engine.allow(3)
    asked_at = queue.clock.now
    expected = {job.id: queue.eta_s(job) for job in (running, *load)}
    queue.engine.release()
    for job in (running, *load):
        ended = queue.wait_for(job)
        assert ended.finished_at is not None
        assert expected[job.id] == pytest.approx(ended.finished_at - asked_at, rel=0.3)


def test_nothing_is_promised_before_anything_was_measured(queue: RunningQueue) -> None:
    running = queue.submit_held()
    waiting = queue.submit(steps=7)
    for job in (running, waiting):
        assert queue.eta_s(job) is None
    assert queue.worker.forecast.seconds_per_picture() is None


def test_a_job_that_has_ended_has_nothing_to_wait_for(queue: RunningQueue) -> None:
    job = queue.run()
    assert queue.eta_s(job) is None


def test_measured_times_are_known_after_a_restart(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.engine.step_s = lambda _stage, pictures: 0.5 * pictures
    queue.start()
    queue.run()
    queue.stop()
    again = make_queue()
    again.start()
    assert again.worker.forecast.seconds_per_picture() == pytest.approx(14 * 0.5)


# Metrics


def test_the_metrics_count_what_happened(queue: RunningQueue) -> None:
    queue.engine.step_s = lambda _stage, _pictures: 0.5
    queue.run(n=2)
    queue.run(n=3)
    queue.engine.failure = RuntimeError("the engine failed")
    queue.run()
    queue.worker.cancel(queue.submit_held().id)
    assert queue.metric("kotoe_running_jobs") == 1
    queue.engine.release()
    wait_until(lambda: queue.metric("kotoe_running_jobs") == 0)
    outcomes = {
        outcome: queue.metric("kotoe_jobs_total", outcome=outcome) for outcome in ("succeeded", "failed", "cancelled")
    }
    assert outcomes == {"succeeded": 2, "failed": 1, "cancelled": 1}
    assert queue.metric("kotoe_pictures_total") == 5
    assert queue.metric("kotoe_step_seconds_count", stage="base") == 21  # two jobs, and the cancelled one's last step
    assert queue.metric("kotoe_step_seconds_sum", stage="base") == pytest.approx(21 * 0.5)
    assert queue.metric("kotoe_stage_seconds_sum", stage="base") == pytest.approx(20 * 0.5)
    assert queue.metric("kotoe_stage_seconds_sum", stage="upsample") == pytest.approx(10 * 0.5)
    assert queue.metric("kotoe_stage_seconds_count", stage="finish") == 2

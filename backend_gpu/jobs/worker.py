"""The thread that draws: it claims a batch of waiting jobs, runs the engine, and keeps the pictures."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from backend_gpu.engine import Drawing, Engine, Pixels, Settings
from backend_gpu.errors import BackendError, InvalidTransition, OutOfMemory, StorageUnavailable
from backend_gpu.gallery import encode_png
from backend_gpu.jobs.batches import Place, Timings, choose_batch, chunk_sizes, places_of
from backend_gpu.jobs.feed import Feed
from backend_gpu.jobs.job import Job, JobError, JobRequest, Live
from backend_gpu.jobs.pictures import Delivery, Pictures
from backend_gpu.jobs.progress import BatchEnded, Chunk, RunningBatch, StepObserver
from backend_gpu.jobs.store import JobStore
from backend_gpu.metrics import Metrics

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

IDLE_WAIT_S = 5.0
LOAD_RETRY_S = 30.0
STORAGE_RETRY_S = 5.0
ABORT_S = 10.0  # how long a batch may take to notice that it shall end: a step
SMOKE_PROMPT = ""  # readiness means that the engine has drawn something


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How the worker works."""

    max_batch_pictures: int
    max_attempts: int
    keep_jobs_s: float  # for so long an ended job can still be read


@dataclass(frozen=True)
class Outlook:
    """The places of waiting jobs; they hold until the queue or a measured time changes, as many ask for them."""

    waiting: Sequence[Job]
    measured: Mapping[tuple[str, int], float]
    places: Mapping[str, Place]


class Worker:
    """Runs jobs one batch after another until it is stopped."""

    def __init__(
        self,
        store: JobStore,
        pictures: Pictures,
        delivery: Delivery,
        feed: Feed,
        metrics: Metrics,
        options: WorkerOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.pictures, self.delivery, self.feed = store, pictures, delivery, feed
        self.metrics, self.options, self.clock = metrics, options, clock
        self.engine: Engine | None = None
        self.load_error = self._storage_error = ""
        self.is_failing = False  # with what nobody has foreseen; told, as nothing may be drawn for long
        self._storage_refusals = 0
        self._worked_at = time.monotonic()
        self._has_recovered = False
        self._batch: RunningBatch | None = None
        self._timings = Timings({})
        self._outlook: Outlook | None = None
        self._cancelled: set[str] = set()  # ids; told to the running batch without asking the store at every step
        self._cancel_lock = threading.Lock()
        self._wake, self._stopping, self._aborting = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, open_engine: Callable[[], Engine]) -> None:
        """Recover what a crash left; then load the engine and draw, in a thread of its own."""
        try:
            self._recover()
        except StorageUnavailable as error:
            self._note_storage_error(error)
        self._thread = threading.Thread(target=self._run, args=(open_engine,), name="worker", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Take no more work; let the running batch finish in that time, or put its jobs back into the queue.

        An engine that is still loading then, or that hangs in a step, is left to the end of the process.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread is None:
            return
        if self.is_ready:
            self._thread.join(grace_s)
            self._aborting.set()
            self._thread.join(ABORT_S)
        if self._thread.is_alive() and (running := self._batch) is not None:
            logger.error("the engine does not end its step", extra=log_ids(running.jobs))
            with suppress(StorageUnavailable):  # then they are found at the next start
                self.store.put_back([job.id for job in running.jobs])
        self.delivery.stop()

    @property
    def is_ready(self) -> bool:
        """Whether the engine has drawn its first step."""
        return self.engine is not None

    def check(self) -> None:
        """Tell whether something keeps the worker from drawing.

        Raises:
            StorageUnavailable: it waits for the disk.
            BackendError: it fails, again and again.
        """
        if self._storage_error:
            raise StorageUnavailable(self._storage_error)
        if self.is_failing:
            raise BackendError("what draws fails again and again: the service's log says why")

    def idle_s(self) -> float:
        """Seconds since the last batch ended, or since the start."""
        return 0.0 if self._batch else time.monotonic() - self._worked_at

    def notify(self) -> None:
        """A job was added."""
        self._wake.set()
        self.feed.publish_all()

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended; if it runs, the engine notices before its next step.

        Raises:
            JobNotFound: there is no such job.
        """
        with self._cancel_lock:  # of two callers only one has cancelled it
            had_ended = self.store.get(job_id).has_ended
            job = self.store.cancel(job_id)
        if job.status == "cancelled" and not had_ended:
            self._cancelled.add(job_id)
            self.metrics.jobs.labels("cancelled").inc()
            logger.info("job cancelled", extra=job.log_ids)
            self.feed.publish_all()
        return job

    def live(self, job_id: str) -> Live:
        """Progress and preview of a running job."""
        running = self._batch
        return running.live.get(job_id, Live()) if running else Live()

    def places(self) -> Mapping[str, Place]:
        """Where every waiting job stands, by id."""
        waiting, measured, outlook = self.store.waiting(), self._timings.known, self._outlook
        if outlook is None or outlook.waiting is not waiting or outlook.measured is not measured:
            places = places_of(waiting, self._timings, self.options.max_batch_pictures)
            self._outlook = outlook = Outlook(waiting, measured, places)
        return outlook.places

    def eta_s(self, job: Job, place: Place | None) -> float | None:
        """Expected seconds until a job has succeeded, from measured times; None if they can't be told.

        Args:
            place: of a waiting job.
        """
        rest_s: float | None = 0.0
        if running := self._batch:
            rest_s = None if running.expected_s is None else max(0.0, running.expected_s - running.done_s)
        if job.status == "running":
            return rest_s if running else None
        if rest_s is None or place is None or place.ends_s is None:
            return None
        return rest_s + place.ends_s

    def seconds_per_picture(self) -> float | None:
        """Measured seconds of one picture alone with the engine's defaults."""
        if self.engine is None:
            return None
        info = self.engine.info
        request = JobRequest(
            prompt="",
            owner="",
            seed=0,
            n=1,
            guidance_scale=info.guidance_scale,
            steps=info.steps,
            upsample_steps=info.upsample_steps,
            sampler=info.sampler,
            upscale=True,
            model=info.model,
        )
        return self._timings.of_batch([request], self.options.max_batch_pictures)

    def _recover(self) -> None:
        """Put in order what a crash left, before anything else is done."""
        waiting, failed = self.store.recover(self.options.max_attempts)
        for job in waiting:
            logger.warning("job interrupted: it waits again", extra=job.log_ids | {"attempts": job.attempts})
        for job in failed:
            self._tell_failed(job)
        self.pictures.drop_all_but(self.store.undelivered())
        self.delivery.start()
        self._has_recovered = True

    def _run(self, open_engine: Callable[[], Engine]) -> None:
        engine = self._load(open_engine)
        while engine is not None and not self._stopping.is_set():
            self._wake.clear()
            try:
                if not self._has_recovered:
                    self._recover()
                for job in self.store.fail_unreadable():
                    self._tell_failed(job)
                    self.feed.publish_all()
                batch = self.store.claim(lambda waiting: choose_batch(waiting, self.options.max_batch_pictures))
                if batch:
                    self._storage_error, self.is_failing = "", False  # not only when this batch has ended
                    self._draw(engine, batch)
                self.store.prune(self.options.keep_jobs_s)
                self._storage_error, self.is_failing = "", False
                if not batch:
                    self._wake.wait(IDLE_WAIT_S)
            except StorageUnavailable as error:
                self._note_storage_error(error)
                self._stopping.wait(STORAGE_RETRY_S)
            except Exception:
                logger.exception("the worker failed: it goes on")
                self.is_failing = True
                self._stopping.wait(STORAGE_RETRY_S)

    def _load(self, open_engine: Callable[[], Engine]) -> Engine | None:
        """Open the engine and draw a step with it; tried again until it works or the service stops."""
        while not self._stopping.is_set():
            started_at = self.clock()
            try:
                engine = open_engine()
                info = engine.info
                drawing = Drawing(prompt=SMOKE_PROMPT, seed=0, guidance_scale=info.guidance_scale)
                engine.generate(
                    [drawing], Settings(sampler="ddim", steps=1, upsample_steps=1, upscale=True), lambda _: None
                )
            except Exception as error:
                self.load_error = str(error) if isinstance(error, BackendError) else "the model could not be loaded"
                logger.exception("the model could not be loaded")
                self._stopping.wait(LOAD_RETRY_S)
                continue
            seconds = self.clock() - started_at
            self.metrics.model_load_seconds.set(seconds)
            logger.info(
                "model loaded", extra={"model": info.model, "device": info.device, "seconds": round(seconds, 2)}
            )
            self._timings = self._known_timings(f"{info.model} {info.device}")
            self.load_error = ""
            self.engine = engine
            return engine
        return None

    def _draw(self, engine: Engine, batch: list[Job]) -> None:
        """Run a batch to its end, whatever that is."""
        expected_s = self._timings.of_batch([job.request for job in batch], self.options.max_batch_pictures)
        self._batch = running = RunningBatch(batch, self._cancelled, expected_s)
        self.metrics.running_jobs.set(len(batch))
        for job in batch:
            logger.info("job started", extra=job.log_ids | {"batch_jobs": len(batch)})
        self.feed.publish_all()
        try:
            if (model := batch[0].request.model) != engine.info.model:
                message = f"this was for the model {model}, but the service runs {engine.info.model} now: send it again"
                self._fail(batch, JobError("model_not_found", message))
                return
            self._finish(engine, batch, self._pixels(engine, running))
        except BatchEnded:
            if self._aborting.is_set():
                self.store.put_back([job.id for job in batch])
        except OutOfMemory as error:
            self._fail(batch, JobError("out_of_memory", f"not even one picture at a time: {error}"))
        except StorageUnavailable as error:  # of what was drawn; else it would still be trying
            logger.error(
                "the service stops and can't keep the pictures: the jobs wait again",
                extra={**log_ids(batch), "reason": str(error)},
            )
            self.store.put_back([job.id for job in batch])
        except Exception:
            logger.exception("the engine failed", extra=log_ids(batch))
            self._fail(batch, JobError("engine_failed", "the engine failed while it drew this; its log says why"))
        finally:
            self._batch = None
            self._cancelled.clear()  # who is cancelled while queued is never claimed
            self._worked_at = time.monotonic()
            self.metrics.running_jobs.set(0)
            self.feed.publish_all()

    def _pixels(self, engine: Engine, running: RunningBatch) -> list[Pixels]:
        """The pictures of every job, each (n, H, W, 3)."""
        batch = running.jobs
        settings = batch[0].request.batch_settings()
        drawings = [drawing for job in batch for drawing in job.request.drawings()]
        drawn: list[Pixels] = []
        sizes = chunk_sizes(len(drawings), self.options.max_batch_pictures)
        while sizes:
            size = sizes[0]
            start = sum(map(len, drawn))
            chunk = Chunk(batch=running, start=start, size=size, total=len(drawings))
            observer = StepObserver(chunk, self._timings, self.feed, self.metrics, self._aborting, self.clock)
            try:
                drawn.append(engine.generate(drawings[start : start + size], settings, observer))
            except OutOfMemory:
                if size == 1:
                    raise
                logger.warning("out of memory: the batch is halved", extra=log_ids(batch) | {"pictures": size})
                sizes[:1] = [size - size // 2, size // 2]
            else:
                sizes.pop(0)
        pictures = iter(np.concatenate(drawn))
        return [np.stack(list(islice(pictures, job.request.n))) for job in batch]

    def _finish(self, engine: Engine, batch: list[Job], pixels: list[Pixels]) -> None:
        """Keep the pictures and let the jobs succeed."""
        started_at, refusals = self.clock(), self._storage_refusals
        for job, job_pixels in zip(batch, pixels, strict=True):
            pngs = [
                encode_png(picture, job.request.record(index, engine.info.model_hash))
                for index, picture in enumerate(job_pixels)
            ]
            if not self._insist(functools.partial(self._keep, job, pngs), job.log_ids):
                continue
            self.metrics.jobs.labels("succeeded").inc()
            self.metrics.pictures.inc(job.request.n)
            logger.info("job succeeded", extra=job.log_ids | {"pictures": job.request.n})
            self.feed.publish(job.id)
            self.delivery.notify()
        if self._storage_refusals == refusals:  # else it was waiting for the disk
            seconds = self.clock() - started_at
            self.metrics.stage_seconds.labels("finish").observe(seconds)
            self._timings.note("finish", sum(job.request.n for job in batch), seconds)

    def _keep(self, job: Job, pngs: Sequence[bytes]) -> bool:
        """Write a job's pictures and let it succeed; False if it was cancelled meanwhile."""
        known = self.store.get(job.id)
        if known.has_ended:  # succeeded, if the disk took it the last time and yet reported an error
            return known.status == "succeeded"
        self.pictures.keep(job, pngs)
        try:
            self.store.succeed(job.id)
        except InvalidTransition:
            self.pictures.drop(job)
            return False
        return True

    def _insist(self, write: Callable[[], Result], ids: Mapping[str, object]) -> Result:
        """Write to the data folder, again and again until it takes it: what was drawn is not lost to a full disk.

        Raises:
            StorageUnavailable: the service stops.
        """
        while True:
            try:
                result = write()
            except StorageUnavailable as error:
                if self._stopping.is_set():
                    raise
                self._note_storage_error(error, ids)
                self._stopping.wait(STORAGE_RETRY_S)
            else:
                self._storage_error = ""
                return result

    def _note_storage_error(self, error: StorageUnavailable, ids: Mapping[str, object] | None = None) -> None:
        """The disk refuses something that is tried again; without a traceback, as there are many such lines."""
        self._storage_error = str(error)
        self._storage_refusals += 1
        logger.error("the data folder can't be used: trying again", extra={**(ids or {}), "reason": str(error)})

    def _known_timings(self, timed: str) -> Timings:
        try:
            known = self.store.timings(timed)
        except StorageUnavailable:
            logger.warning("measured times can't be read: they are measured anew", exc_info=True)
            known = {}
        return Timings(known, functools.partial(self._write_timing, timed))

    def _write_timing(self, timed: str, stage: str, size: int, seconds: float) -> None:
        try:
            self.store.write_timing(timed, stage, size, seconds)
        except StorageUnavailable:
            logger.warning("a measured time was not kept", exc_info=True)

    def _fail(self, batch: Sequence[Job], error: JobError) -> None:
        for job in batch:
            with suppress(InvalidTransition):  # it was cancelled meanwhile, or had succeeded
                self._tell_failed(self._insist(functools.partial(self.store.fail, job.id, error), job.log_ids))

    def _tell_failed(self, job: Job) -> None:
        self.metrics.jobs.labels("failed").inc()
        logger.error("job failed", extra=job.log_ids | {"code": job.error and job.error.code})


def log_ids(batch: Sequence[Job]) -> dict[str, list[str]]:
    """What every line of the log about a batch has."""
    return {"job_ids": [job.id for job in batch], "request_ids": [job.request_id for job in batch]}

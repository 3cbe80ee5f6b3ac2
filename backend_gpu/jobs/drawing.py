"""One batch from claimed jobs to pictures on disk, whatever the engine's memory and the disk say to it."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from backend_gpu.engine import BatchSettings, Drawing, Engine, Pixels, StepReport, finished
from backend_gpu.errors import InvalidTransition, OutOfMemory, StorageUnavailable
from backend_gpu.jobs.batches import FINISH, chunk_sizes
from backend_gpu.jobs.feed import Feed
from backend_gpu.jobs.forecast import Forecast
from backend_gpu.jobs.job import Job, JobError
from backend_gpu.jobs.pictures import Delivery, Pictures
from backend_gpu.jobs.png import encode_png
from backend_gpu.jobs.progress import BatchEnded, Chunk, RunningBatch, StepObserver
from backend_gpu.jobs.request import JobRequest
from backend_gpu.jobs.slots import Slot, Slots
from backend_gpu.jobs.store import JobStore
from backend_gpu.metrics import Metrics

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SMOKE_PROMPT = ""  # readiness means that the engine has drawn something


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where jobs, pictures and news go."""

    store: JobStore
    pictures: Pictures
    delivery: Delivery
    feed: Feed
    metrics: Metrics

    def report_failed(self, job: Job) -> None:
        """Count and log a job that has failed."""
        self.metrics.jobs.labels("failed").inc()
        logger.error("job failed", extra=job.log_ids | {"code": job.error and job.error.code})


def draw_a_step(engine: Engine) -> None:
    """Draw the least that an engine can, to see that it works."""
    info = engine.info
    drawing = Drawing(prompt=SMOKE_PROMPT, seed=0, guidance_scale=info.guidance_scale)
    finished(
        engine.generate(
            [drawing], BatchSettings(sampler=info.samplers[0], steps={stage.name: 1 for stage in info.stages})
        )
    )


@dataclass(frozen=True, kw_only=True)
class Drawer:
    """Draws the batches of one slot."""

    engine: Engine
    slot: Slot
    slots: Slots
    forecast: Forecast
    outputs: Outputs
    max_pictures: int  # that the engine is given at once
    storage_retry_s: float  # before something is written again that the disk has refused

    def draw(self, running: RunningBatch) -> None:
        """Run a batch to its end, whatever that is."""
        outputs, batch = self.outputs, running.jobs
        outputs.metrics.running_jobs.inc(len(batch))
        for job in batch:
            logger.info("job started", extra=job.log_ids | {"batch_jobs": len(batch)})
        outputs.feed.publish_all()
        try:
            if refusal := self._refusal(batch[0].request):
                self._fail(batch, refusal)
            else:
                self._finish(batch, self._pixels(running))
        except BatchEnded:
            if self.slots.aborting.is_set():
                outputs.store.put_back([job.id for job in batch])
        except OutOfMemory as error:
            self._fail(batch, JobError("out_of_memory", f"not even one picture at a time: {error}"))
        except StorageUnavailable as error:  # of what was drawn; else it would still be trying
            logger.error(
                "the service stops and can't keep the pictures: the jobs wait again",
                extra={**log_ids(batch), "reason": str(error)},
            )
            outputs.store.put_back([job.id for job in batch])
        except Exception:
            logger.exception("the engine failed", extra=log_ids(batch))
            self._fail(batch, JobError("engine_failed", "the engine failed while it drew this; its log says why"))
        finally:
            self.slots.end(self.slot)
            outputs.metrics.running_jobs.dec(len(batch))
            outputs.feed.publish_all()

    def _refusal(self, request: JobRequest) -> JobError | None:
        """Why a batch of such requests can't be drawn: they were made for what drew here before."""
        info = self.engine.info
        if request.model != info.model:
            message = f"this was for the model {request.model}, but the service runs {info.model} now: send it again"
            return JobError("model_not_found", message)
        if request.sampler not in info.samplers:
            return JobError("unreadable_request", f"{info.model} has no sampler {request.sampler!r}: send it again")
        return None

    def _pixels(self, running: RunningBatch) -> list[Pixels]:
        """The pictures of every job, each (n, H, W, 3)."""
        batch = running.jobs
        settings = batch[0].request.batch_settings(self.engine.info)
        drawings = [drawing for job in batch for drawing in job.request.drawings()]
        drawn: list[Pixels] = []
        sizes = chunk_sizes(len(drawings), self.max_pictures)
        while sizes:
            size = sizes[0]
            start = sum(map(len, drawn))
            observer = self._observer(Chunk(batch=running, start=start, size=size, total=len(drawings)))
            try:
                drawn.append(self._draw_chunk(drawings[start : start + size], settings, observer))
            except OutOfMemory:
                if size == 1:
                    raise
                logger.warning("out of memory: the batch is halved", extra=log_ids(batch) | {"pictures": size})
                sizes[:1] = [size - size // 2, size // 2]
            else:
                sizes.pop(0)
        pictures = iter(np.concatenate(drawn))
        return [np.stack(list(islice(pictures, job.request.n))) for job in batch]

    def _draw_chunk(self, drawings: Sequence[Drawing], settings: BatchSettings, observer: StepObserver) -> Pixels:
        with closing(self.engine.generate(drawings, settings)) as run:  # closed early, it stops
            for drawn in run:
                if not isinstance(drawn, StepReport):
                    return drawn
                observer.note(drawn)
        raise RuntimeError("the engine has ended without pictures")

    def _observer(self, chunk: Chunk) -> StepObserver:
        return StepObserver(
            chunk=chunk,
            timings=self.forecast.timings,
            feed=self.outputs.feed,
            metrics=self.outputs.metrics,
            aborting=self.slots.aborting,
            clock=self.slots.clock,
        )

    def _finish(self, batch: list[Job], pixels: list[Pixels]) -> None:
        """Keep the pictures and let the jobs succeed."""
        clock, metrics = self.slots.clock, self.outputs.metrics
        started_at, refusals = clock(), self.slot.storage_refusals
        for job, job_pixels in zip(batch, pixels, strict=True):
            pngs = [
                encode_png(picture, job.request, index, self.engine.info) for index, picture in enumerate(job_pixels)
            ]
            if not self._insist(functools.partial(self._keep, job, pngs), job.log_ids):
                continue
            metrics.jobs.labels("succeeded").inc()
            metrics.pictures.inc(job.request.n)
            logger.info("job succeeded", extra=job.log_ids | {"pictures": job.request.n})
            self.outputs.feed.publish(job.id)
            self.outputs.delivery.notify()
        if self.slot.storage_refusals == refusals:  # else it was waiting for the disk
            seconds = clock() - started_at
            metrics.stage_seconds.labels(FINISH).observe(seconds)
            self.forecast.timings.note(FINISH, sum(job.request.n for job in batch), seconds)

    def _keep(self, job: Job, pngs: Sequence[bytes]) -> bool:
        """Write a job's pictures and let it succeed; False if it was cancelled meanwhile."""
        store, pictures = self.outputs.store, self.outputs.pictures
        known = store.get(job.id)
        if known.has_ended:  # succeeded, if the disk took it the last time and yet reported an error
            return known.status == "succeeded"
        pictures.keep(job, pngs)
        try:
            store.succeed(job.id)
        except InvalidTransition:
            pictures.drop(job)
            return False
        return True

    def _fail(self, batch: Sequence[Job], error: JobError) -> None:
        for job in batch:
            with suppress(InvalidTransition):  # it was cancelled meanwhile, or had succeeded
                fail = functools.partial(self.outputs.store.fail, job.id, error)
                self.outputs.report_failed(self._insist(fail, job.log_ids))

    def _insist(self, write: Callable[[], Result], ids: Mapping[str, object]) -> Result:
        """Write to the data folder, again and again until it takes it: what was drawn is not lost to a full disk.

        Raises:
            StorageUnavailable: the service stops.
        """
        while True:
            try:
                result = write()
            except StorageUnavailable as error:
                if self.slots.stopping.is_set():
                    raise
                self.slot.note_storage_error(error, ids)
                self.slots.stopping.wait(self.storage_retry_s)
            else:
                self.slot.storage_error = ""
                return result


def log_ids(batch: Sequence[Job]) -> dict[str, list[str]]:
    """What every line of the log about a batch has."""
    return {"job_ids": [job.id for job in batch], "request_ids": [job.request_id for job in batch]}

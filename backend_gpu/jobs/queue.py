"""The queue as its callers see it; what it is made of is not theirs to touch."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from backend_gpu.engine import Engine, EngineInfo
from backend_gpu.errors import ModelLoading
from backend_gpu.gallery import Gallery
from backend_gpu.jobs.blocklist import Blocklist
from backend_gpu.jobs.drawing import Outputs
from backend_gpu.jobs.feed import Feed
from backend_gpu.jobs.folder_lock import FolderLock
from backend_gpu.jobs.intake import Intake, Limits
from backend_gpu.jobs.job import Job, Live
from backend_gpu.jobs.pictures import Delivery, Pictures
from backend_gpu.jobs.request import JobRequest
from backend_gpu.jobs.retries import Claim, Refusals
from backend_gpu.jobs.store import JobStore
from backend_gpu.jobs.worker import Worker, WorkerOptions
from backend_gpu.metrics import Metrics

logger = logging.getLogger(__name__)

LOADING_RETRY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is to draw."""

    describe: Callable[[], EngineInfo]  # before it is loaded: quick, without the libraries that draw
    open: Callable[[], Engine]


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """What an operator decides about the queue."""

    folder: Path  # of the queue's file, its lock, and pictures that are not in the gallery yet
    gallery: Gallery
    blocklist: Blocklist
    limits: Limits
    worker: WorkerOptions
    grace_s: float  # that running batches have when the queue stops


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as it is at one moment."""

    job: Job
    position: int | None  # of a waiting job, from 1
    eta_s: float | None  # until it has succeeded, if that can be predicted
    live: Live
    now: float  # seconds since 1970; a clock may have been ahead when the job was written down


@dataclass(frozen=True, kw_only=True)
class QueueStatus:
    """What the queue does at one moment."""

    info: EngineInfo | None  # None until the engine has drawn its first step
    load_error: str
    queued_jobs: int
    running_jobs: int
    idle_s: float
    seconds_per_picture: float | None


class Queue:
    """Jobs from their submission to finished pictures.

    Every method that reads or writes jobs raises StorageUnavailable if the data folder can't be used.
    """

    def __init__(self, model: Model, options: QueueOptions, metrics: Metrics) -> None:
        """Put the parts together; nothing runs before `start`.

        Raises:
            StorageUnavailable: the data folder can't be used, or another service uses it.
            BackendError: the queue's file is damaged, or Python's SQLite is too old.
        """
        self._model, self._grace_s = model, options.grace_s
        self._described: EngineInfo | None = None
        self._folder_lock = FolderLock(options.folder / "service.lock")
        self._store = JobStore(options.folder / "jobs.sqlite3", folder_lock=self._folder_lock)
        self._pictures = Pictures(options.folder / "finished", options.gallery)
        self._feed = Feed()
        self._delivery = Delivery(self._store, self._pictures)
        outputs = Outputs(
            store=self._store, pictures=self._pictures, delivery=self._delivery, feed=self._feed, metrics=metrics
        )
        self._worker = Worker(outputs, options.worker)
        self._intake = Intake(self._store, self._worker.forecast, options.blocklist, options.limits)
        self._refusals = Refusals()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Recover, load the model in the background, and draw."""
        try:
            self._described = self._model.describe()
        except Exception:  # whatever is wrong with its files: loading it will fail too, and is tried again
            logger.warning("the model can't be described", exc_info=True)
        self._worker.start(self._model.open)

    def stop_drawing(self) -> None:
        """Take no more work, finish or put back what runs, and wake all who wait."""
        self._stopping.set()
        self._feed.publish_all()  # those whose job is queued wait no longer
        self._worker.stop(self._grace_s)
        self._feed.publish_all()

    def stop(self) -> None:
        """Stop drawing, and close the files."""
        self.stop_drawing()
        self._store.close()
        self._folder_lock.release()

    @property
    def is_stopping(self) -> bool:
        """Whether what waits now is drawn after the next start only."""
        return self._stopping.is_set()

    def info(self) -> EngineInfo:
        """What draws here, or will when it is loaded.

        Raises:
            ModelLoading: it can't be described before.
        """
        if self._worker.engine is None and self._described is not None:
            return self._described
        return self._engine().info

    def submit(self, request: JobRequest, claim: Claim) -> Job:
        """Accept a job: it is on disk when this returns; or find the one that the same key made.

        Raises:
            ModelLoading: the engine can't check or draw anything yet.
            ContentRefused: a term of the blocklist.
            InvalidRequest: the model can't draw that prompt, or the quota never has so many pictures.
            RateLimited, QueueFull: too much at once or in the window.
            IdempotencyConflict: the key came before with another fingerprint.
        """
        job = self._intake.accept(self._engine(), request, claim)
        self._worker.notify()
        return job

    def earlier(self, claim: Claim) -> Job | None:
        """The job that the claim's key has made; it is found while the model loads too.

        Raises:
            IdempotencyConflict: the key came before with another fingerprint.
        """
        return self._store.find(claim)

    def was_refused(self, claim: Claim) -> bool:
        """Whether an earlier try of this claim made no job; asking takes one of its refusals away."""
        return self._refusals.take(claim)

    def note_refusal(self, claim: Claim) -> None:
        """A try of this claim made no job, and its client will come again."""
        self._refusals.note(claim)

    def newest(self, claim: Claim, since: float) -> Job | None:
        """The last job that the same owner's same request has made, if it is not older than `since`."""
        return self._store.newest(claim, since)

    def job(self, job_id: str) -> Job:
        """Read one job.

        Raises:
            JobNotFound: there is none with that id.
        """
        return self._store.get(job_id)

    def jobs(self, owner: str, limit: int) -> list[Job]:
        """An owner's jobs, newest first; ended ones for as long as they are kept."""
        return self._store.of_owner(owner, limit)

    def view(self, job: Job) -> JobView:
        """A job with its place, its expected time and its progress."""
        return self.views([job])[0]

    def views(self, jobs: Sequence[Job]) -> list[JobView]:
        """Likewise several, whose places agree."""
        forecast, places, views = self._worker.forecast, None, []
        for read in jobs:
            job, place = read, None
            if job.status == "queued":
                places = forecast.places() if places is None else places
                place = places.get(job.id)
                if place is None:  # it was begun, or cancelled, since it was read
                    job = self._store.get(job.id)
            views.append(
                JobView(
                    job=job,
                    position=place.position if place else None,
                    eta_s=None if job.has_ended else forecast.eta_s(job, place),
                    live=self._worker.slots.live(job.id) if job.status == "running" else Live(),
                    now=self._store.clock(),
                )
            )
        return views

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended, running or not; one that has ended stays as it is.

        Raises:
            JobNotFound: there is none with that id.
        """
        return self._worker.cancel(job_id)

    def listen(self, job_id: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set at every change of the job; the listener clears it. Use it in a running loop."""
        return self._feed.listen(job_id)

    def picture(self, job: Job, index: int) -> bytes | None:
        """A PNG of a job; None if it has not succeeded, has no such picture, or that was deleted from the gallery.

        Raises:
            GalleryUnavailable: it is in the gallery, and that does not answer.
        """
        return self._pictures.read(job, index) if job.status == "succeeded" and index < job.request.n else None

    def status(self) -> QueueStatus:
        """What it does now."""
        worker = self._worker
        queued, running = self._store.count("queued"), self._store.count("running")
        return QueueStatus(
            info=worker.engine.info if worker.engine else None,
            load_error=worker.load_error,
            queued_jobs=queued,
            running_jobs=running,
            idle_s=0.0 if queued or running else worker.slots.idle_s(),
            seconds_per_picture=worker.forecast.seconds_per_picture(),
        )

    def check_ready(self) -> None:
        """See whether a job that comes now would be drawn.

        Raises:
            ModelLoading: the model is not loaded yet.
            StorageUnavailable: the disk takes no job or no picture.
            BackendError: what draws fails again and again.
        """
        self._engine()
        self._worker.slots.check()
        self._store.check_writable()

    def _engine(self) -> Engine:
        engine = self._worker.engine
        if engine is None:
            reason = self._worker.load_error or "the model is being loaded"
            raise ModelLoading(f"{reason}: try again in {LOADING_RETRY_S:.0f} s", LOADING_RETRY_S)
        return engine

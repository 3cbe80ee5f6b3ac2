"""Everything behind the HTTP faces, built once from the settings."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from backend_gpu.engine import Engine
from backend_gpu.gallery import Gallery
from backend_gpu.jobs.blocklist import Blocklist
from backend_gpu.jobs.feed import Feed
from backend_gpu.jobs.folder_lock import FolderLock
from backend_gpu.jobs.intake import Intake, Quota
from backend_gpu.jobs.pictures import Delivery, Pictures
from backend_gpu.jobs.store import Caps, JobStore
from backend_gpu.jobs.worker import Worker, WorkerOptions
from backend_gpu.metrics import Metrics
from backend_gpu.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Service:
    """The queue and what belongs to it."""

    settings: Settings
    store: JobStore
    pictures: Pictures
    feed: Feed
    metrics: Metrics
    worker: Worker
    intake: Intake
    open_engine: Callable[[], Engine]
    lock: FolderLock  # held as long as the process lives
    stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Recover, load the model in the background, and draw."""
        self.worker.start(self.open_engine)

    def stop_drawing(self) -> None:
        """Take no more work, finish or put back what runs, and tell all who wait."""
        self.stopping.set()
        self.feed.publish_all()  # those whose job is queued wait no longer
        self.worker.stop(self.settings.grace_s)
        self.feed.publish_all()

    def stop(self) -> None:
        """Stop drawing, and close the files."""
        self.stop_drawing()
        self.store.close()
        self.lock.release()


def build_service(settings: Settings, open_engine: Callable[[], Engine]) -> Service:
    """Put the parts together; nothing runs before `start`.

    Raises:
        StorageUnavailable: the data folder can't be used, or another service uses it.
        BackendError: the queue's file is damaged, or Python's SQLite is too old.
        InvalidRequest: the blocklist can't be read.
    """
    blocklist = Blocklist.read(settings.blocklist)
    lock = FolderLock(settings.data_dir / "service.lock")
    caps = Caps(queued_jobs=settings.max_queued_jobs, jobs_per_owner=settings.max_jobs_per_owner)
    store = JobStore(settings.data_dir / "jobs.sqlite3", caps, lock=lock)
    pictures = Pictures(settings.data_dir / "finished", Gallery(settings.gallery_root))
    feed, metrics = Feed(), Metrics()
    options = WorkerOptions(
        max_batch_pictures=settings.max_batch_pictures,
        max_attempts=settings.max_attempts,
        keep_jobs_s=max(settings.keep_jobs_s, settings.quota_window_s),  # the quota counts jobs
    )
    worker = Worker(store, pictures, Delivery(store, pictures), feed, metrics, options)
    quota = Quota(pictures=settings.quota_pictures, window_s=settings.quota_window_s)
    return Service(
        settings=settings,
        store=store,
        pictures=pictures,
        feed=feed,
        metrics=metrics,
        worker=worker,
        intake=Intake(store, worker, blocklist, quota),
        open_engine=open_engine,
        lock=lock,
    )

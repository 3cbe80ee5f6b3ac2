"""Everything behind the HTTP faces, built once from the settings."""

import functools
from dataclasses import dataclass

from backend_gpu.engine.models import Family
from backend_gpu.gallery import Gallery
from backend_gpu.jobs.blocklist import Blocklist
from backend_gpu.jobs.intake import Limits
from backend_gpu.jobs.queue import Model, Queue, QueueOptions
from backend_gpu.jobs.worker import WorkerOptions
from backend_gpu.metrics import Metrics
from backend_gpu.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Service:
    """The queue and what belongs to it."""

    settings: Settings
    queue: Queue
    metrics: Metrics
    gallery: Gallery


def build_service(settings: Settings, family: Family, options: QueueOptions | None = None) -> Service:
    """Put the parts together; nothing runs before the queue is started.

    Args:
        options: those of the settings if not given.

    Raises:
        StorageUnavailable: the data folder can't be used, or another service uses it.
        BackendError: the queue's file is damaged, or Python's SQLite is too old.
        InvalidRequest: the blocklist can't be read.
    """
    options, metrics = options or queue_options(settings), Metrics()
    model = Model(describe=functools.partial(family.describe, settings), open=functools.partial(family.open, settings))
    queue = Queue(model, options, metrics)
    return Service(settings=settings, queue=queue, metrics=metrics, gallery=options.gallery)


def queue_options(settings: Settings) -> QueueOptions:
    """What the settings say about the queue.

    Raises:
        InvalidRequest: the blocklist can't be read.
    """
    return QueueOptions(
        folder=settings.data_dir,
        gallery=Gallery(settings.gallery_root),
        blocklist=Blocklist.read(settings.blocklist),
        limits=Limits(
            queued_jobs=settings.max_queued_jobs,
            jobs_per_owner=settings.max_jobs_per_owner,
            quota_pictures=settings.quota_pictures,
            quota_window_s=settings.quota_window_s,
        ),
        worker=WorkerOptions(
            max_batch_pictures=settings.max_batch_pictures,
            max_attempts=settings.max_attempts,
            keep_jobs_s=max(settings.keep_jobs_s, settings.quota_window_s),  # the quota counts jobs
        ),
        grace_s=settings.grace_s,
    )

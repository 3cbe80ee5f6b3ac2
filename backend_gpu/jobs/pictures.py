"""Finished pictures: first on this machine's disk, then in the gallery, however long that takes to answer."""

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend_gpu.errors import BackendError, GalleryUnavailable, StorageUnavailable
from backend_gpu.files import sync_folder, write_file
from backend_gpu.gallery import Gallery, picture_name
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.store import JobStore

logger = logging.getLogger(__name__)

RETRY_INTERVAL_S = 5.0  # before the first retry of a delivery; each further one waits twice as long
MAX_RETRY_INTERVAL_S = 300.0
MAX_DOUBLINGS = 10  # more would overflow one day


class Pictures:
    """The pictures of all jobs, wherever they are."""

    def __init__(self, folder: Path, gallery: Gallery) -> None:
        self.folder, self.gallery = folder, gallery

    def keep(self, job: Job, pngs: Sequence[bytes]) -> None:
        """Write a job's pictures to this machine's disk.

        Raises:
            StorageUnavailable: the disk is full or can't be written to.
        """
        folder = self.folder / job.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for index, png in enumerate(pngs):
                write_file(folder / f"{index}.png", png)
            sync_folder(self.folder)
        except (OSError, BackendError) as error:
            self.drop(job)
            raise StorageUnavailable(f"can't keep the pictures ({error}): free some space") from error

    def drop(self, job: Job) -> None:
        """Remove what `keep` wrote."""
        shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def drop_all_but(self, jobs: Sequence[Job]) -> None:
        """After a start: remove pictures of runs that a crash cut off before their job ended."""
        wanted = {job.id for job in jobs}
        for folder in self.folder.glob("*"):
            if folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def read(self, job: Job, index: int) -> bytes | None:
        """A picture of a job that has succeeded; None if it was deleted from the gallery.

        Raises:
            GalleryUnavailable: it is in the gallery, and that does not answer.
        """
        try:
            return (self.folder / job.id / f"{index}.png").read_bytes()
        except FileNotFoundError:
            return self.gallery.read(job.request.owner, picture_name(job.created_at, job.id, index))

    def deliver(self, job: Job) -> None:
        """Copy a job's pictures to the gallery, all that it takes; doing it again changes nothing.

        Raises:
            GalleryUnavailable: the gallery does not take one of them; they stay here.
        """
        refusal: GalleryUnavailable | None = None
        for index in range(job.request.n):
            try:
                png = (self.folder / job.id / f"{index}.png").read_bytes()
                self.gallery.write(job.request.owner, picture_name(job.created_at, job.id, index), png)
            except FileNotFoundError:
                logger.error("somebody removed a picture before it was delivered", extra=job.log_ids)
            except GalleryUnavailable as error:
                refusal = error
        if refusal:
            raise refusal


@dataclass(frozen=True)
class Retry:
    """When a delivery that failed is tried again."""

    failures: int
    due_at: float


class Delivery:
    """A thread that brings finished pictures to the gallery, and tries again what that does not take.

    Every job waits for its own next try, so that one that the gallery keeps refusing holds up no other.
    """

    def __init__(
        self,
        store: JobStore,
        pictures: Pictures,
        retry_interval_s: float = RETRY_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.pictures, self.retry_interval_s, self.clock = store, pictures, retry_interval_s, clock
        self._retries: dict[str, Retry] = {}  # by job; in memory, as a new process tries everything at once
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier process left."""
        self._thread.start()

    def notify(self) -> None:
        """There is something to deliver."""
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """End after the job at hand, or in the middle of it; the rest is delivered after the next start.

        Args:
            timeout_s: how long a gallery that hangs is waited for.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():  # it never was, if the data folder could not be used
            self._thread.join(timeout_s)

    def deliver_due(self) -> None:
        """Deliver what is new, then what failed before and is due; cut short when something new comes.

        Raises:
            StorageUnavailable: the list of undelivered jobs can't be read.
        """
        now, jobs = self.clock(), self.store.undelivered()
        # Noted as delivered though the disk reported an error: nothing is left to try
        self._retries = {job.id: self._retries[job.id] for job in jobs if job.id in self._retries}
        for job in sorted(jobs, key=self._due_at):
            if self._due_at(job) > now:
                return
            self._deliver(job)
            if self._wake.is_set():
                return

    def wait_s(self) -> float | None:
        """Seconds until a failed delivery is due; None if there is none."""
        if not self._retries:
            return None
        return max(0.0, min(retry.due_at for retry in self._retries.values()) - self.clock())

    def _due_at(self, job: Job) -> float:
        retry = self._retries.get(job.id)
        return retry.due_at if retry else -math.inf

    def _deliver(self, job: Job) -> None:
        try:
            self.pictures.deliver(job)
            self.store.mark_delivered(job.id)
        except (GalleryUnavailable, StorageUnavailable, OSError) as error:
            failures = self._retries[job.id].failures + 1 if job.id in self._retries else 1
            delay_s = min(self.retry_interval_s * 2 ** min(failures - 1, MAX_DOUBLINGS), MAX_RETRY_INTERVAL_S)
            self._retries[job.id] = Retry(failures, self.clock() + delay_s)
            logger.warning(
                "pictures wait for the gallery",
                extra=job.log_ids | {"failures": failures, "retry_s": delay_s, "reason": str(error)},
            )
        else:
            self._retries.pop(job.id, None)
            self.pictures.drop(job)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self.deliver_due()
            except StorageUnavailable as error:
                logger.warning("what is to be delivered can't be read", extra={"reason": str(error)})
                self._stopping.wait(self.retry_interval_s)
            else:
                self._wake.wait(self.wait_s())

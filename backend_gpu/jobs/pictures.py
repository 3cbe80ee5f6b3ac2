"""Finished pictures: first on this machine's disk, then in the gallery, however long that takes to answer."""

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from backend_gpu.errors import BackendError, GalleryUnavailable, StorageUnavailable
from backend_gpu.gallery import Gallery, picture_name, sync_folder, write_picture
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.store import JobStore

logger = logging.getLogger(__name__)

RETRY_INTERVAL_S = 5.0
STOP_S = 5.0  # how long a stop waits for a gallery that hangs


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
                write_picture(folder / f"{index}.png", png)
            sync_folder(self.folder)
        except (OSError, BackendError) as error:
            self.drop(job)
            raise StorageUnavailable(f"can't keep the pictures ({error}): free some space") from error

    def drop(self, job: Job) -> None:
        """Remove what `keep` wrote."""
        shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def drop_all_but(self, jobs: Sequence[Job]) -> None:
        """After a start: remove pictures of runs that a crash cut off before their job ended."""
        kept = {job.id for job in jobs}
        for folder in self.folder.glob("*"):
            if folder.name not in kept:
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
        """Copy a job's pictures to the gallery; doing it again changes nothing.

        Raises:
            GalleryUnavailable: the gallery does not answer; the pictures stay here.
        """
        for index in range(job.request.n):
            png = (self.folder / job.id / f"{index}.png").read_bytes()
            self.gallery.write(job.request.owner, picture_name(job.created_at, job.id, index), png)


class Delivery:
    """A thread that brings finished pictures to the gallery and tries again until it takes them."""

    def __init__(self, store: JobStore, pictures: Pictures, retry_interval_s: float = RETRY_INTERVAL_S) -> None:
        self.store, self.pictures, self.retry_interval_s = store, pictures, retry_interval_s
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier process left."""
        self._thread.start()

    def notify(self) -> None:
        """There is something to deliver."""
        self._wake.set()

    def stop(self) -> None:
        """End after the job at hand, or in the middle of it; the rest is delivered after the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(STOP_S)

    def deliver_all(self) -> None:
        """Deliver what there is.

        Raises:
            GalleryUnavailable: the gallery does not answer; what is left stays for the next call.
        """
        for job in self.store.undelivered():
            if self._stopping.is_set():
                return
            try:
                self.pictures.deliver(job)
            except FileNotFoundError:
                logger.exception("somebody removed pictures before they were delivered", extra={"job_id": job.id})
            self.store.mark_delivered(job.id)
            self.pictures.drop(job)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self.deliver_all()
            except (GalleryUnavailable, StorageUnavailable, OSError) as error:
                logger.warning("pictures wait for the gallery", extra={"reason": type(error).__name__})
                self._stopping.wait(self.retry_interval_s)
            else:
                self._wake.wait()

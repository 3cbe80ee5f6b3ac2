import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend_gpu.engine import Engine
from backend_gpu.errors import StorageUnavailable
from backend_gpu.gallery import Gallery
from backend_gpu.jobs.drawing import Outputs
from backend_gpu.jobs.feed import Feed
from backend_gpu.jobs.job import Job, JobStatus
from backend_gpu.jobs.pictures import Delivery, Pictures
from backend_gpu.jobs.request import JobRequest
from backend_gpu.jobs.store import JobStore
from backend_gpu.jobs.worker import Worker, WorkerOptions
from backend_gpu.metrics import Metrics
from tests.backend_gpu.fake_engine import FakeEngine
from tests.backend_gpu.jobs.clock import Clock
from tests.backend_gpu.waiting import WAIT_S, wait_until

REQUEST = JobRequest(
    prompt="a red apple",
    owner="anna",
    seed=1,
    n=1,
    guidance_scale=2.5,
    steps=10,
    upsample_steps=5,
    sampler="dpmpp_2m",
    upscale=True,
    model="kotoe-mini",
)


def a_request(**fields: Any) -> JobRequest:
    """A request of owner anna for one picture, but for the fields given."""
    return replace(REQUEST, **fields)


@contextmanager
def read_only(store: JobStore) -> Iterator[None]:
    """Let SQLite refuse every write, as on a disk that is full or was mounted read-only after an error."""
    with store.database.lock:
        store.database.connection.execute("PRAGMA query_only = 1")
    try:
        yield
    finally:
        with store.database.lock:
            store.database.connection.execute("PRAGMA query_only = 0")


@contextmanager
def unreadable(store: JobStore) -> Iterator[None]:
    """Let SQLite fail in every statement, as on a disk with errors."""
    with store.database.lock:
        store.database.connection.set_progress_handler(lambda: 1, 1)
    try:
        yield
    finally:
        with store.database.lock:
            store.database.connection.set_progress_handler(None, 0)


@dataclass(frozen=True)
class RunningQueue:
    """A worker with all its parts on a folder of the test's own, its engine in the test's hand."""

    folder: Path
    clock: Clock
    engine: FakeEngine
    store: JobStore
    pictures: Pictures
    feed: Feed
    metrics: Metrics
    worker: Worker

    def start(self, open_engine: Callable[[], Engine] | None = None) -> None:
        self.worker.start(open_engine or (lambda: self.engine))
        if open_engine is None:
            wait_until(lambda: self.worker.is_ready)

    def submit(self, **fields: Any) -> Job:
        request = a_request(**fields)
        job = self.store.add(request, request_id=f"request of {request.owner}")
        self.worker.notify()
        return job

    def wait_for(self, job: Job, *statuses: JobStatus) -> Job:
        """The job as soon as it has one of these states, by default any final one."""
        wanted = statuses or ("succeeded", "failed", "cancelled")
        wait_until(lambda: self.store.get(job.id).status in wanted)
        return self.store.get(job.id)

    def eta_s(self, job: Job) -> float | None:
        """Expected seconds until a job has succeeded."""
        return self.worker.forecast.eta_s(self.store.get(job.id), self.worker.forecast.places().get(job.id))

    def run(self, **fields: Any) -> Job:
        """Submit a job and wait for its end."""
        return self.wait_for(self.submit(**fields))

    def submit_held(self, **fields: Any) -> Job:
        """Submit a job and wait until the engine is about to do its first step."""
        self.engine.hold()
        job = self.submit(**fields)
        self.engine.wait_for_step()
        return job

    def drawn(self, job: Job) -> NDArray[np.uint8]:
        """A job's pictures, wherever they are: (n, H, W, 3)."""
        pngs = [self.pictures.read(self.store.get(job.id), index) for index in range(job.request.n)]
        assert all(pngs)
        return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pngs if png])

    def delivered(self, owner: str = "anna") -> list[str]:
        """Names in the owner's gallery."""
        return sorted(path.name for path in (self.folder / "gallery" / owner).glob("*"))

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def stop(self) -> None:
        """End in good order."""
        self.engine.release()
        with suppress(StorageUnavailable):
            self.worker.stop(grace_s=WAIT_S)
        for thread in self.worker._threads:
            thread.join(WAIT_S)
        self.store.close()


MakeQueue = Callable[..., RunningQueue]


@pytest.fixture
def make_queue(tmp_path: Path) -> Iterator[MakeQueue]:
    """Builds a queue; a second one on the same folder is the service after a restart."""
    queues: list[RunningQueue] = []

    def make(
        max_batch_pictures: int = 8,
        pictures: type[Pictures] = Pictures,
        engine: type[FakeEngine] = FakeEngine,
        **options: float,
    ) -> RunningQueue:
        clock = queues[-1].clock if queues else Clock()
        store = JobStore(tmp_path / "jobs.sqlite3", clock)
        made = pictures(tmp_path / "finished", Gallery(str(tmp_path / "gallery")))
        outputs = Outputs(
            store=store, pictures=made, delivery=Delivery(store, made, 0.01), feed=Feed(), metrics=Metrics()
        )
        all_options = WorkerOptions(
            max_batch_pictures=max_batch_pictures,
            max_attempts=2,
            keep_jobs_s=3600,
            **{"load_retry_s": 0.01, "storage_retry_s": 0.01} | options,
        )
        worker = Worker(outputs, all_options, clock)
        drawn_by = engine(spend=clock.advance, clock=clock)
        queues.append(RunningQueue(tmp_path, clock, drawn_by, store, made, outputs.feed, outputs.metrics, worker))
        return queues[-1]

    yield make
    for queue in queues:
        queue.stop()


@pytest.fixture
def queue(make_queue: MakeQueue) -> RunningQueue:
    """A queue that runs."""
    made = make_queue()
    made.start()
    return made

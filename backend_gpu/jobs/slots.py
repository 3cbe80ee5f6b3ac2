"""The slots of the engine: each draws one batch at a time, in a thread of its own."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backend_gpu.errors import BackendError, StorageUnavailable
from backend_gpu.jobs.job import Job, Live
from backend_gpu.jobs.progress import RunningBatch

logger = logging.getLogger(__name__)


@dataclass
class Slot:
    """The batch that is drawn here, and what keeps it from that."""

    number: int
    batch: RunningBatch | None = None
    storage_error: str = ""  # why it waits for the disk
    storage_refusals: int = 0  # so far
    is_failing: bool = False  # with an error that nobody foresaw; nothing may be drawn for long

    def note_storage_error(self, error: StorageUnavailable, ids: Mapping[str, object] | None = None) -> None:
        """The disk refuses something that is tried again; without a traceback, as there are many such lines."""
        self.storage_error = str(error)
        self.storage_refusals += 1
        logger.error("the data folder can't be used: trying again", extra={**(ids or {}), "reason": str(error)})

    def note_success(self) -> None:
        """What failed before works again."""
        self.storage_error, self.is_failing = "", False


class Slots:
    """All of them; safe to use from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.slots: tuple[Slot, ...] = (Slot(0),)  # of an engine that is not loaded yet
        self.changes = 0  # how often a batch has begun or ended
        self.stopping = threading.Event()  # no batch begins any more
        self.aborting = threading.Event()  # and those that run end after their next step
        self._ended_at = clock()  # the last batch
        self._lock = threading.Lock()

    def open(self, count: int) -> tuple[Slot, ...]:
        """Have so many slots from now on."""
        self.slots += tuple(Slot(number) for number in range(len(self.slots), count))
        return self.slots

    def begin(self, slot: Slot, jobs: list[Job], expected_s: float | None) -> RunningBatch:
        """Put claimed jobs into a free slot."""
        slot.batch = running = RunningBatch(jobs, set(), expected_s)
        with self._lock:
            self.changes += 1
        return running

    def end(self, slot: Slot) -> None:
        """Free a slot."""
        slot.batch, self._ended_at = None, self.clock()
        with self._lock:
            self.changes += 1

    @property
    def batches(self) -> list[RunningBatch]:
        """Those in flight."""
        return [batch for slot in self.slots if (batch := slot.batch)]

    def batch_of(self, job_id: str) -> RunningBatch | None:
        """The batch that a job runs in; None if it does not run."""
        return next((batch for batch in self.batches if any(job.id == job_id for job in batch.jobs)), None)

    def live(self, job_id: str) -> Live:
        """Progress and preview of a running job."""
        batch = self.batch_of(job_id)
        return batch.live.get(job_id, Live()) if batch else Live()

    def rests_s(self) -> list[float | None]:
        """Expected seconds until each slot is free; None where that can't be predicted."""
        return [rest_s(batch) if (batch := slot.batch) else 0.0 for slot in self.slots]

    def cancel(self, job_id: str) -> None:
        """Let the engine leave a job out, if it runs; its batch ends with the last one."""
        if batch := self.batch_of(job_id):
            batch.cancelled.add(job_id)

    def idle_s(self) -> float:
        """Seconds since the last batch ended, or since the start."""
        return 0.0 if self.batches else self.clock() - self._ended_at

    def check(self) -> None:
        """See whether something keeps one of them from drawing.

        Raises:
            StorageUnavailable: it waits for the disk.
            BackendError: it fails, again and again.
        """
        for slot in self.slots:
            if error := slot.storage_error:
                raise StorageUnavailable(error)
        if any(slot.is_failing for slot in self.slots):
            raise BackendError("what draws fails again and again: the service's log says why")


def rest_s(batch: RunningBatch) -> float | None:
    """Expected seconds until a batch has ended; None before anything was measured."""
    return None if batch.expected_s is None else max(0.0, batch.expected_s - batch.done_s)

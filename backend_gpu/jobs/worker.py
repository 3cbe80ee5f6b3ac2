"""The threads that draw: they load the engine, and give its slots one batch of waiting jobs after another."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from backend_gpu.engine import Engine
from backend_gpu.errors import BackendError, StorageUnavailable
from backend_gpu.jobs.batches import choose_batch
from backend_gpu.jobs.drawing import Drawer, Outputs, draw_a_step, log_ids
from backend_gpu.jobs.forecast import Forecast
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.progress import RunningBatch
from backend_gpu.jobs.slots import Slot, Slots

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How much is drawn at once, and how long what is waited for."""

    max_batch_pictures: int
    max_attempts: int
    keep_jobs_s: float  # for so long an ended job can still be read
    idle_wait_s: float = 5.0  # between two looks at a queue in which nothing was announced
    load_retry_s: float = 30.0  # before the model is loaded again after a failure
    storage_retry_s: float = 5.0  # before something is written again that the disk has refused
    abort_s: float = 10.0  # how long an aborted batch may take to stop: at most a step
    delivery_stop_s: float = 5.0  # how long a stop waits for a gallery that hangs


class Worker:
    """Runs jobs, as many batches at once as the engine has slots, until it is stopped."""

    def __init__(self, outputs: Outputs, options: WorkerOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self.outputs, self.options = outputs, options
        self.slots = Slots(clock)
        self.forecast = Forecast(outputs.store, self.slots, options.max_batch_pictures)
        self.engine: Engine | None = None
        self.load_error = ""
        self._has_recovered = False
        # Of two callers only one has cancelled a job; and nobody cancels one between its claim and its batch
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, open_engine: Callable[[], Engine]) -> None:
        """Recover what a crash left; then load the engine and draw, in threads of their own."""
        try:
            self._recover()
        except StorageUnavailable as error:
            self.slots.slots[0].note_storage_error(error)
        self._start_thread("worker", functools.partial(self._run, open_engine))

    def stop(self, grace_s: float) -> None:
        """Take no more work; let the running batches finish in that time, or put their jobs back into the queue.

        An engine that is still loading then, or that hangs in a step, is left to the end of the process.
        """
        self.slots.stopping.set()
        self._wake.set()
        if not self._threads:
            return
        if self.is_ready:
            self._join(grace_s)
            self.slots.aborting.set()
            self._join(self.options.abort_s)
        for running in self.slots.batches:
            logger.error("the engine does not end its step", extra=log_ids(running.jobs))
            with suppress(StorageUnavailable):  # then they are found at the next start
                self.outputs.store.put_back([job.id for job in running.jobs])
        self.outputs.delivery.stop(self.options.delivery_stop_s)

    @property
    def is_ready(self) -> bool:
        """Whether the engine has drawn its first step."""
        return self.engine is not None

    def notify(self) -> None:
        """A job was added."""
        self._wake.set()
        self.outputs.feed.publish_all()

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended; if it runs, the engine notices before its next step.

        Raises:
            JobNotFound: there is no such job.
        """
        with self._lock:
            had_ended = self.outputs.store.get(job_id).has_ended
            job = self.outputs.store.cancel(job_id)
            is_cancelled_now = job.status == "cancelled" and not had_ended
            if is_cancelled_now:
                self.slots.cancel(job_id)
        if is_cancelled_now:
            self.outputs.metrics.jobs.labels("cancelled").inc()
            logger.info("job cancelled", extra=job.log_ids)
            self.outputs.feed.publish_all()
        return job

    def _recover(self) -> None:
        """Put in order what a crash left, before anything else is done."""
        waiting, failed = self.outputs.store.recover(self.options.max_attempts)
        for job in waiting:
            logger.warning("job interrupted: it waits again", extra=job.log_ids | {"attempts": job.attempts})
        for job in failed:
            self.outputs.report_failed(job)
        self.outputs.pictures.drop_all_but(self.outputs.store.undelivered())
        self.outputs.delivery.start()
        self._has_recovered = True

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self, timeout_s: float) -> None:
        """Wait for all threads together, by real time: it is real threads that are waited for."""
        deadline = time.monotonic() + timeout_s
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, open_engine: Callable[[], Engine]) -> None:
        """Load the engine; then draw in this thread for the first slot, in others for the others."""
        engine = self._load(open_engine)
        if engine is None:
            return
        first, *others = (self._drawer(engine, slot) for slot in self.slots.open(engine.info.slots))
        self.engine = engine
        for drawer in others:
            self._start_thread(f"worker-{drawer.slot.number}", functools.partial(self._draw_batches, drawer))
        self._draw_batches(first)

    def _drawer(self, engine: Engine, slot: Slot) -> Drawer:
        return Drawer(
            engine=engine,
            slot=slot,
            slots=self.slots,
            forecast=self.forecast,
            outputs=self.outputs,
            max_pictures=self.options.max_batch_pictures,
            storage_retry_s=self.options.storage_retry_s,
        )

    def _load(self, open_engine: Callable[[], Engine]) -> Engine | None:
        """Open the engine and draw a step with it; tried again until it works or the service stops."""
        while not self.slots.stopping.is_set():
            started_at = self.slots.clock()
            try:
                engine = open_engine()
                draw_a_step(engine)
            except Exception as error:
                self.load_error = str(error) if isinstance(error, BackendError) else "the model could not be loaded"
                logger.exception("the model could not be loaded")
                self.slots.stopping.wait(self.options.load_retry_s)
                continue
            info, seconds = engine.info, self.slots.clock() - started_at
            self.outputs.metrics.model_load_seconds.set(seconds)
            logger.info(
                "model loaded", extra={"model": info.model, "device": info.device, "seconds": round(seconds, 2)}
            )
            self.forecast.begin(engine)
            self.load_error = ""
            return engine
        return None

    def _draw_batches(self, drawer: Drawer) -> None:
        """Draw one batch after another in a slot until the service stops."""
        slot = drawer.slot
        while not self.slots.stopping.is_set():
            self._wake.clear()
            try:
                running = self._claim(slot)
                if running:
                    self._wake.set()  # another slot may wait, and this one has cleared what was meant for it
                    slot.note_success()  # not only when this batch has ended
                    drawer.draw(running)
                self.outputs.store.prune(self.options.keep_jobs_s)
                slot.note_success()
                if not running:
                    self._wake.wait(self.options.idle_wait_s)
            except StorageUnavailable as error:
                slot.note_storage_error(error)
                self.slots.stopping.wait(self.options.storage_retry_s)
            except Exception:
                logger.exception("the worker failed: it goes on")
                slot.is_failing = True
                self.slots.stopping.wait(self.options.storage_retry_s)

    def _claim(self, slot: Slot) -> RunningBatch | None:
        """The next batch, put into a slot; None if nothing waits."""
        store, max_pictures = self.outputs.store, self.options.max_batch_pictures
        with self._lock:
            if not self._has_recovered:
                self._recover()
            for job in store.fail_unreadable():
                self.outputs.report_failed(job)
                self.outputs.feed.publish_all()
            batch = store.claim(lambda waiting: choose_batch(waiting, max_pictures, self.forecast.batch_key))
            if not batch:
                return None
            return self.slots.begin(slot, batch, self.forecast.batch_s([job.request for job in batch]))

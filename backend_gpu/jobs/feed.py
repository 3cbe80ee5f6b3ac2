"""Wakes waiting coroutines when a job has changed, from any thread."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Feed:
    """Who waits for which job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    @contextmanager
    def listen(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at every change of the job; the listener clears it. Use it in a running loop."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.setdefault(job_id, set()).add(listener)
        try:
            yield listener[1]
        finally:
            with self._lock:
                self._listeners[job_id].discard(listener)
                if not self._listeners[job_id]:
                    del self._listeners[job_id]

    def publish(self, *job_ids: str) -> None:
        """Wake everyone who listens to one of these jobs."""
        with self._lock:
            listeners = [listener for job_id in job_ids for listener in self._listeners.get(job_id, ())]
        for loop, event in listeners:
            with suppress(RuntimeError):  # its loop has closed: nobody is left to be woken
                loop.call_soon_threadsafe(event.set)

    def publish_all(self) -> None:
        """Wake everyone: places in the queue have changed, or the service stops."""
        with self._lock:
            job_ids = list(self._listeners)
        self.publish(*job_ids)

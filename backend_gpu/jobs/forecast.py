"""When waiting and running jobs will have ended, from measured times."""

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backend_gpu.engine import Engine, EngineInfo
from backend_gpu.errors import StorageUnavailable
from backend_gpu.jobs.batches import BatchKey, Place, Timings, places_of
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.request import JobRequest, JobSubmission
from backend_gpu.jobs.slots import Slots, rest_s
from backend_gpu.jobs.store import JobStore

logger = logging.getLogger(__name__)

CACHED_KEYS = 1000  # of waiting jobs
FULL_RETRY_S = 30.0  # when to try again with a full queue, if no time was measured yet


@dataclass(frozen=True)
class Outlook:
    """The places of waiting jobs; they hold until the queue, the batches or a measured time change: many ask for them.

    Args:
        changes: how often a batch had begun or ended.
    """

    waiting: Sequence[Job]
    measured: Mapping[tuple[str, int], float]
    changes: int
    places: Mapping[str, Place]


class Forecast:
    """Places in the queue and expected times."""

    def __init__(self, store: JobStore, slots: Slots, max_batch_pictures: int) -> None:
        self.store, self.slots, self.max_batch_pictures = store, slots, max_batch_pictures
        self.timings = Timings((), {})
        self.batch_key: BatchKey = lambda _: ""
        self._info: EngineInfo | None = None
        self._outlook: Outlook | None = None

    def begin(self, engine: Engine) -> None:
        """Take up what was measured of this engine before."""
        info = engine.info
        timed = f"{info.model} {info.device}"
        try:
            known = self.store.timings(timed)
        except StorageUnavailable:
            logger.warning("measured times can't be read: they are measured anew", exc_info=True)
            known = {}
        self.timings = Timings(info.stages, known, functools.partial(self._write_timing, timed))
        # Asked again and again for the same waiting jobs
        self.batch_key = functools.lru_cache(CACHED_KEYS)(functools.partial(batch_key, engine))
        self._info = info

    def places(self) -> Mapping[str, Place]:
        """Where every waiting job stands, by id."""
        changes, waiting, measured = self.slots.changes, self.store.waiting(), self.timings.known
        outlook = self._outlook
        if outlook is None or (
            outlook.waiting is not waiting or outlook.measured is not measured or outlook.changes != changes
        ):
            places = places_of(waiting, self.timings, self.max_batch_pictures, self.batch_key, self.slots.rests_s())
            self._outlook = outlook = Outlook(waiting, measured, changes, places)
        return outlook.places

    def eta_s(self, job: Job, place: Place | None) -> float | None:
        """Expected seconds until a job has succeeded; None if they can't be predicted.

        Args:
            place: of a waiting job.
        """
        if job.status == "running":
            batch = self.slots.batch_of(job.id)
            return rest_s(batch) if batch else None
        if place is None or place.ends_s is None:
            return None
        slot_rest_s = self.slots.rests_s()[place.slot]
        return None if slot_rest_s is None else slot_rest_s + place.ends_s

    def batch_s(self, requests: Sequence[JobRequest]) -> float | None:
        """Expected seconds of a batch of these requests; None before anything was measured."""
        return self.timings.of_batch(requests, self.max_batch_pictures)

    def seconds_per_picture(self) -> float | None:
        """Measured seconds of one picture alone with the engine's defaults."""
        if (info := self._info) is None:
            return None
        return self.batch_s([JobRequest.of(JobSubmission(prompt="a picture"), info)])

    def retry_after_s(self) -> float:
        """When a full queue has room again, roughly: after one batch."""
        seconds = self.seconds_per_picture()
        return FULL_RETRY_S if seconds is None else max(1.0, seconds * self.max_batch_pictures)

    def _write_timing(self, timed: str, stage: str, size: int, seconds: float) -> None:
        try:
            self.store.write_timing(timed, stage, size, seconds)
        except StorageUnavailable:
            logger.warning("a measured time was not written down", exc_info=True)


def batch_key(engine: Engine, request: JobRequest) -> str:
    """Requests with equal keys may share a batch of that engine, which draws or refuses them as a whole."""
    drawing, *_ = request.drawings()
    own_key = engine.batch_key(drawing, request.batch_settings(engine.info))
    return f"{request.model} {request.sampler} {own_key}"

"""Which waiting jobs run together, and how long that takes: from measured times of this machine, never from waiting."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backend_gpu.glide.config import StageName
from backend_gpu.jobs.job import Job, JobRequest

TimedStage = Literal["base", "upsample", "finish"]  # seconds of a step, of a step, and of encoding and writing
NEWEST_SHARE = 0.3  # of a measured time in its running mean
WORTH_REPORTING = 0.1  # relative change of a mean since it was reported last


def choose_batch(waiting: Sequence[Job], max_pictures: int) -> list[Job]:
    """The next batch: the first waiting job, and those like it that fit beside it.

    A job whose last attempt ended with the process runs alone, so that another crash fails no other job.
    """
    first = waiting[0]
    if first.attempts:
        return [first]
    batch, pictures = [first], first.request.n
    for job in waiting[1:]:
        fits = pictures + job.request.n <= max_pictures
        if fits and not job.attempts and job.request.batch_key == first.request.batch_key:
            batch.append(job)
            pictures += job.request.n
    return batch


def plan_batches(waiting: Sequence[Job], max_pictures: int) -> list[list[Job]]:
    """All batches to come, if nobody else comes."""
    rest, batches = list(waiting), []
    while rest:
        batch = choose_batch(rest, max_pictures)
        batches.append(batch)
        taken = {job.id for job in batch}
        rest = [job for job in rest if job.id not in taken]
    return batches


def chunk_sizes(pictures: int, max_pictures: int) -> list[int]:
    """A batch in parts that the device can hold."""
    whole, rest = divmod(pictures, max_pictures)
    return [max_pictures] * whole + [rest] * (rest > 0)


def base_rows(pictures: int, requests: Iterable[JobRequest]) -> int:
    """Rows of the base model's passes for so many pictures: if one of them is guided, every picture goes in twice."""
    return pictures * (2 if any(request.guidance_scale != 1 for request in requests) else 1)


class Timings:
    """Running means of seconds per stage and size, written down by `on_change`.

    The size is the number of pictures, or of rows (see `base_rows`) for the base model's steps.
    """

    def __init__(
        self, known: dict[tuple[str, int], float], on_change: Callable[[str, int, float], None] = lambda *_: None
    ) -> None:
        self.known: Mapping[tuple[str, int], float] = dict(known)  # replaced as a whole, never changed
        self._reported, self._on_change = dict(known), on_change
        self._lock = threading.Lock()  # several batches may be measured at once

    def note(self, stage: TimedStage, size: int, seconds: float) -> None:
        """Add a measurement: of one step, or of finishing a batch."""
        with self._lock:
            before = self.known.get((stage, size), seconds)
            mean = before + NEWEST_SHARE * (seconds - before)
            self.known = {**self.known, (stage, size): mean}
            if abs(mean - self._reported.get((stage, size), 0.0)) > WORTH_REPORTING * mean:
                self._reported[stage, size] = mean
                self._on_change(stage, size, mean)

    def seconds(self, stage: TimedStage, size: int) -> float | None:
        """Expected seconds; None before anything was measured.

        Between measured sizes it is on the line that joins them. Below and beyond them it is on the line of the
        nearest two, as a step has a cost of its own and each picture another; but a larger batch is never expected
        to be faster, nor slower per picture, than a smaller one.
        """
        known = sorted((measured, seconds) for (name, measured), seconds in self.known.items() if name == stage)
        if not known:
            return None
        sizes, seconds = zip(*known, strict=True)
        if sizes[0] <= size <= sizes[-1]:
            return float(np.interp(size, sizes, seconds))
        (nearest, at_nearest), *others = known if size < sizes[0] else known[::-1]
        proportional = at_nearest * size / nearest
        if not others:
            return proportional
        other, at_other = others[0]
        on_line = at_nearest + (at_other - at_nearest) / (other - nearest) * (size - nearest)
        return sorted((at_nearest, on_line, proportional))[1]

    def of_batch(self, requests: Sequence[JobRequest], max_pictures: int) -> float | None:
        """Expected seconds of a batch of these requests, which share their settings."""
        total, first = 0.0, requests[0]
        for size in chunk_sizes(sum(request.n for request in requests), max_pictures):
            base, upsample = self.seconds("base", base_rows(size, requests)), self.seconds("upsample", size)
            if base is None or (upsample is None and first.upscale):
                return None
            total += first.steps * base + (self.seconds("finish", size) or 0.0)
            total += first.upsample_steps * (upsample or 0.0) * first.upscale
        return total

    def share_done(self, request: JobRequest, pictures: int, rows: int, stage: StageName, share: float) -> float:
        """How much of a chunk's time is over with that share of a stage; by steps alone before anything was measured.

        Args:
            rows: the base model's, for these pictures.
        """
        base_step, upsample_step = self.seconds("base", rows), self.seconds("upsample", pictures)
        if not base_step or not upsample_step:
            base_step = upsample_step = 1.0
        base_s, upsample_s = request.steps * base_step, request.upsample_steps * upsample_step * request.upscale
        done_s = base_s * share if stage == "base" else base_s + upsample_s * share
        return done_s / (base_s + upsample_s)


@dataclass(frozen=True)
class Place:
    """Where a waiting job stands."""

    position: int  # from 1
    ends_s: float | None  # from when its slot is free to this one's end, if that can be told
    slot: int = 0  # of the engine, where it will be drawn


def places_of(
    waiting: Sequence[Job], timings: Timings, max_pictures: int, rests_s: Sequence[float | None] = (0.0,)
) -> dict[str, Place]:
    """The place of every waiting job, by its id: each batch goes to the slot that is free first.

    Args:
        rests_s: seconds until each slot of the engine is free; where one is unknown, so are all ends.
    """
    known_rests_s = [rest for rest in rests_s if rest is not None]
    spent_s = [0.0] * len(rests_s)  # on the batches before, in each slot
    ends: dict[str, tuple[float, int]] = {}
    for batch in plan_batches(waiting, max_pictures) if len(known_rests_s) == len(rests_s) else ():
        seconds = timings.of_batch([job.request for job in batch], max_pictures)
        if seconds is None:
            break
        slot = min(range(len(spent_s)), key=lambda slot: known_rests_s[slot] + spent_s[slot])
        spent_s[slot] += seconds
        ends |= {job.id: (spent_s[slot], slot) for job in batch}
    return {job.id: Place(position, *ends.get(job.id, (None, 0))) for position, job in enumerate(waiting, 1)}

"""Which waiting jobs run together, and how long that takes: from measured times of this machine, never from waiting."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend_gpu.engine import Stage
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.request import JobRequest

BatchKey = Callable[[JobRequest], str]  # requests with equal keys may share a batch
FINISH = "finish"  # timed like a stage of one step: encoding and writing the pictures of a batch
NEWEST_SHARE = 0.3  # of a measured time in its running mean
WORTH_REPORTING = 0.1  # relative change of a mean since it was reported last


def choose_batch(waiting: Sequence[Job], max_pictures: int, batch_key: BatchKey) -> list[Job]:
    """The next batch: the first waiting job, and those like it that fit beside it.

    A job whose last attempt ended with the process runs alone, so that another crash fails no other job.
    """
    first = waiting[0]
    if first.attempts:
        return [first]
    batch, pictures, key = [first], first.request.n, batch_key(first.request)
    for job in waiting[1:]:
        fits = pictures + job.request.n <= max_pictures
        if fits and not job.attempts and batch_key(job.request) == key:
            batch.append(job)
            pictures += job.request.n
    return batch


def plan_batches(waiting: Sequence[Job], max_pictures: int, batch_key: BatchKey) -> list[list[Job]]:
    """All batches to come, if nobody else comes."""
    rest, batches = list(waiting), []
    while rest:
        batch = choose_batch(rest, max_pictures, batch_key)
        batches.append(batch)
        taken = {job.id for job in batch}
        rest = [job for job in rest if job.id not in taken]
    return batches


def chunk_sizes(pictures: int, max_pictures: int) -> list[int]:
    """A batch in parts that the device can hold."""
    whole, rest = divmod(pictures, max_pictures)
    return [max_pictures] * whole + [rest] * (rest > 0)


def rows_of(stage: Stage, pictures: int, requests: Iterable[JobRequest]) -> int:
    """Rows of a stage's passes for so many pictures: in a guided stage every picture goes in twice if one is guided."""
    is_guided = stage.is_guided and any(request.guidance_scale != 1 for request in requests)
    return pictures * (2 if is_guided else 1)


class Timings:
    """Running means of the seconds of a step, by stage and size (see `rows_of`); and of finishing a batch, by pictures.

    Args:
        stages: of the model that is timed.
        known: what was measured before.
        on_change: called with a mean that has changed by a share worth writing down.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        known: Mapping[tuple[str, int], float],
        on_change: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        self.stages = stages
        self.known: Mapping[tuple[str, int], float] = dict(known)  # replaced as a whole, never changed
        self._reported, self._on_change = dict(known), on_change
        self._lock = threading.Lock()  # several batches may be measured at once

    def note(self, stage: str, size: int, seconds: float) -> None:
        """Add a measurement: of one step, or of finishing a batch."""
        with self._lock:
            before = self.known.get((stage, size), seconds)
            mean = before + NEWEST_SHARE * (seconds - before)
            self.known = {**self.known, (stage, size): mean}
            if abs(mean - self._reported.get((stage, size), 0.0)) > WORTH_REPORTING * mean:
                self._reported[stage, size] = mean
                self._on_change(stage, size, mean)

    def seconds(self, stage: str, size: int) -> float | None:
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
        """Expected seconds of a batch of these requests, which share their settings; None before it was measured."""
        steps, total_s = requests[0].steps_of(self.stages), 0.0
        for size in chunk_sizes(sum(request.n for request in requests), max_pictures):
            for stage in self.stages:
                if stage.name not in steps:
                    continue
                step_s = self.seconds(stage.name, rows_of(stage, size, requests))
                if step_s is None:
                    return None
                total_s += steps[stage.name] * step_s
            total_s += self.seconds(FINISH, size) or 0.0
        return total_s if steps else None

    def share_done(self, steps: Mapping[str, int], rows: Mapping[str, int], stage: str, share: float) -> float:
        """How much of a chunk's time is over with that share of a stage; by steps alone before all were measured.

        Args:
            steps: of each stage that is run, in their order.
            rows: of each stage's passes.
        """
        step_s = {name: self.seconds(name, rows[name]) or 0.0 for name in steps}
        if not all(step_s.values()):
            step_s = dict.fromkeys(steps, 1.0)
        stage_s = {name: count * step_s[name] for name, count in steps.items()}
        names = list(steps)
        done_s = sum(stage_s[name] for name in names[: names.index(stage)]) + stage_s[stage] * share
        return done_s / sum(stage_s.values())


@dataclass(frozen=True)
class Place:
    """Where a waiting job stands."""

    position: int  # from 1
    ends_s: float | None  # from when its slot is free to this one's end, if that can be predicted
    slot: int = 0  # of the engine, where it will be drawn


def places_of(
    waiting: Sequence[Job],
    timings: Timings,
    max_pictures: int,
    batch_key: BatchKey,
    rests_s: Sequence[float | None] = (0.0,),
) -> dict[str, Place]:
    """The place of every waiting job, by its id: each batch goes to the slot that is free first.

    Args:
        rests_s: seconds until each slot of the engine is free; where one is unknown, so are all ends.
    """
    known_rests_s = [rest for rest in rests_s if rest is not None]
    spent_s = [0.0] * len(rests_s)  # on the batches before, in each slot
    ends: dict[str, tuple[float, int]] = {}
    for batch in plan_batches(waiting, max_pictures, batch_key) if len(known_rests_s) == len(rests_s) else ():
        seconds = timings.of_batch([job.request for job in batch], max_pictures)
        if seconds is None:
            break
        slot = min(range(len(spent_s)), key=lambda slot: known_rests_s[slot] + spent_s[slot])
        spent_s[slot] += seconds
        ends |= {job.id: (spent_s[slot], slot) for job in batch}
    return {job.id: Place(position, *ends.get(job.id, (None, 0))) for position, job in enumerate(waiting, 1)}

"""Which waiting jobs run together, and how long that takes: from measured times of this machine, never from waiting."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from backend_gpu.jobs.job import Job, JobRequest

TimedStage = Literal["base", "upsample", "finish"]  # seconds of a step, of a step, and of encoding and writing
NEWEST_SHARE = 0.3  # of a measured time in its running mean
WORTH_TELLING = 0.1  # relative change of a mean since it was told last


def choose_batch(waiting: Sequence[Job], max_pictures: int) -> list[Job]:
    """The next batch: the first waiting job, and those like it that fit beside it.

    A job whose last attempt ended with the process runs alone, so that it takes nobody along.
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


class Timings:
    """Running means of seconds per stage and number of pictures, kept by whoever is told of a change."""

    def __init__(
        self, known: dict[tuple[str, int], float], on_change: Callable[[str, int, float], None] = lambda *_: None
    ) -> None:
        self.known: Mapping[tuple[str, int], float] = dict(known)  # replaced as a whole, never changed
        self._told, self._on_change = dict(known), on_change

    def note(self, stage: TimedStage, pictures: int, seconds: float) -> None:
        """Add a measurement: of one step, or of finishing a batch."""
        before = self.known.get((stage, pictures), seconds)
        mean = before + NEWEST_SHARE * (seconds - before)
        self.known = {**self.known, (stage, pictures): mean}
        if abs(mean - self._told.get((stage, pictures), 0.0)) > WORTH_TELLING * mean:
            self._told[stage, pictures] = mean
            self._on_change(stage, pictures, mean)

    def seconds(self, stage: TimedStage, pictures: int) -> float | None:
        """Expected seconds; None before anything was measured.

        Between measured sizes it is on the line that joins them. Below and beyond them it is on the line of the
        nearest two, as a step has a cost of its own and each picture another; but a larger batch is never expected
        to be faster, nor slower per picture, than a smaller one.
        """
        known = sorted((size, seconds) for (name, size), seconds in self.known.items() if name == stage)
        if not known:
            return None
        sizes, seconds = zip(*known, strict=True)
        if sizes[0] <= pictures <= sizes[-1]:
            return float(np.interp(pictures, sizes, seconds))
        (size, at_size), *others = known if pictures < sizes[0] else known[::-1]  # the nearest first
        proportional = at_size * pictures / size
        if not others:
            return proportional
        other_size, at_other = others[0]
        on_line = at_size + (at_other - at_size) / (other_size - size) * (pictures - size)
        return sorted((at_size, on_line, proportional))[1]

    def of_batch(self, request: JobRequest, pictures: int, max_pictures: int) -> float | None:
        """Expected seconds of a batch of requests like this one, of so many pictures."""
        total = 0.0
        for size in chunk_sizes(pictures, max_pictures):
            base, upsample = self.seconds("base", size), self.seconds("upsample", size)
            if base is None or (upsample is None and request.upscale):
                return None
            total += request.steps * base + (self.seconds("finish", size) or 0.0)
            total += request.upsample_steps * (upsample or 0.0) * request.upscale
        return total

"""What is known of a batch while it is drawn: progress, previews, measured times; and how it is stopped early."""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from backend_gpu.engine import Pixels, StepReport
from backend_gpu.jobs.batches import Timings, rows_of
from backend_gpu.jobs.feed import Feed
from backend_gpu.jobs.job import Job, Live, Progress
from backend_gpu.jobs.png import FAST_PNG
from backend_gpu.metrics import Metrics

PUBLISH_INTERVAL_S = 0.05  # quick steps are published together with those that follow
PREVIEW_SIDE = 64  # pixels of each picture in a preview
PREVIEW_COLUMNS = 4


class BatchEnded(Exception):
    """Nobody waits for this batch any more: all its jobs are cancelled, or the service stops."""


@dataclass
class RunningBatch:
    """The batch that the engine has now."""

    jobs: list[Job]
    cancelled: set[str]  # ids; others may come to it at any time
    expected_s: float | None
    done_s: float = 0.0  # of the expected seconds, so many are over
    fraction: float = 0.0  # published so far; it never shrinks, whatever is measured meanwhile
    live: dict[str, Live] = field(default_factory=dict)  # by job


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The part of a batch that one call of the engine draws."""

    batch: RunningBatch
    start: int  # of its pictures in the batch
    size: int
    total: int  # pictures of the batch

    def rows_of(self, job: Job) -> range:
        """Which pictures of this chunk are the job's."""
        first = -self.start
        for other in self.batch.jobs:
            if other.id == job.id:
                break
            first += other.request.n
        return range(max(0, first), max(0, min(self.size, first + job.request.n)))

    def passes(self, timings: Timings) -> dict[str, int]:
        """Rows of every stage's passes."""
        requests = [job.request for job in self.batch.jobs if self.rows_of(job)]
        return {stage.name: rows_of(stage, self.size, requests) for stage in timings.stages}


@dataclass(kw_only=True)
class StepObserver:
    """Watches one call of the engine: ends it when nobody waits, keeps progress, previews and times."""

    chunk: Chunk
    timings: Timings
    feed: Feed
    metrics: Metrics
    aborting: threading.Event  # set when the service stops
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.rows = self.chunk.passes(self.timings)
        self.steps = self.chunk.batch.jobs[0].request.steps_of(self.timings.stages)
        self.ticked_at = self.stage_started_at = self.published_at = self.clock()

    def note(self, report: StepReport) -> None:
        """Take note of a step.

        Raises:
            BatchEnded: nobody waits any more, or the service stops.
        """
        batch = self.chunk.batch
        now = self.clock()
        self._note_time(report, now)
        running = [job for job in batch.jobs if job.id not in batch.cancelled]
        if not running or self.aborting.is_set():
            raise BatchEnded
        share = self.timings.share_done(self.steps, self.rows, report.stage, report.step / report.total_steps)
        batch.fraction = max(batch.fraction, (self.chunk.start + self.chunk.size * share) / self.chunk.total)
        if batch.expected_s is not None:
            batch.done_s = batch.fraction * batch.expected_s
        progress = Progress(
            stage=report.stage, step=report.step, total_steps=report.total_steps, fraction=batch.fraction
        )
        x_start = report.x_start
        for job in running:
            rows = self.chunk.rows_of(job)
            preview = batch.live[job.id].preview if job.id in batch.live else None
            if x_start is not None and rows:
                preview = contact_sheet(x_start[rows.start : rows.stop])
            batch.live[job.id] = Live(progress=progress, preview=preview)
        if x_start is not None or now - self.published_at >= PUBLISH_INTERVAL_S:
            self.published_at = now
            self.feed.publish(*(job.id for job in running))

    def _note_time(self, report: StepReport, now: float) -> None:
        self.metrics.step_seconds.labels(report.stage).observe(now - self.ticked_at)
        self.ticked_at = now
        if report.step == report.total_steps:
            seconds, self.stage_started_at = now - self.stage_started_at, now
            self.metrics.stage_seconds.labels(report.stage).observe(seconds)
            self.timings.note(report.stage, self.rows[report.stage], seconds / report.total_steps)


def contact_sheet(pictures: Pixels) -> bytes:
    """A small PNG of a few pictures, side by side."""
    columns = min(len(pictures), PREVIEW_COLUMNS)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * PREVIEW_SIDE, rows * PREVIEW_SIDE))
    for index, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BOX)
        sheet.paste(small, (index % columns * PREVIEW_SIDE, index // columns * PREVIEW_SIDE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_type=FAST_PNG)
    return buffer.getvalue()

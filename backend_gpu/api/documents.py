"""What the queue knows, as the documents that go over HTTP."""

import base64

from backend_gpu.api.schemas import (
    ErrorInfo,
    ImageLink,
    JobDocument,
    JobRequestDocument,
    ProgressDocument,
    StatusDocument,
)
from backend_gpu.jobs.job import Progress
from backend_gpu.jobs.queue import JobView, QueueStatus


def job_document(view: JobView) -> JobDocument:
    """A job with its place, its expected time and its progress."""
    job, live, now = view.job, view.live, view.now
    return JobDocument(
        id=job.id,
        status=job.status,
        request=JobRequestDocument.model_validate(job.request.to_json()),
        created_at=min(job.created_at, now),
        started_at=None if job.started_at is None else min(job.started_at, now),
        finished_at=None if job.finished_at is None else min(job.finished_at, now),
        position=view.position,
        eta_seconds=None if view.eta_s is None else round(view.eta_s, 2),
        progress=progress_document(live.progress) if live.progress else None,
        preview=data_url(live.preview) if live.preview else None,
        unknown_words=list(job.unknown_words),
        images=[
            ImageLink(index=index, seed=job.request.seed_of(index), url=f"/v1/jobs/{job.id}/images/{index}.png")
            for index in range(job.request.n if job.status == "succeeded" else 0)
        ],
        error=ErrorInfo(message=job.error.message, type="server_error", param=None, code=job.error.code)
        if job.error
        else None,
    )


def status_document(status: QueueStatus) -> StatusDocument:
    """What the service does now."""
    info = status.info
    return StatusDocument(
        model=info.model if info else None,
        device=info.device if info else None,
        ready=info is not None,
        load_error=status.load_error or None,
        queued_jobs=status.queued_jobs,
        running_jobs=status.running_jobs,
        idle_seconds=status.idle_s,
        seconds_per_picture=status.seconds_per_picture,
    )


def progress_document(progress: Progress) -> ProgressDocument:
    """How far a job is."""
    return ProgressDocument(
        stage=progress.stage,
        step=progress.step,
        total_steps=progress.total_steps,
        fraction=round(progress.fraction, 4),
    )


def data_url(png: bytes) -> str:
    """A PNG that a page can show as it is."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"

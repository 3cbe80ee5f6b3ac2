"""Between what the queue knows and what goes over HTTP."""

import base64
import hashlib
import secrets
from collections.abc import Mapping

from pydantic import BaseModel

from backend_gpu.api.schemas import (
    ErrorInfo,
    ImageLink,
    JobDocument,
    JobRequestDocument,
    JobSubmission,
    ProgressDocument,
    StatusDocument,
)
from backend_gpu.engine import EngineInfo
from backend_gpu.errors import BadParameter
from backend_gpu.jobs.batches import Place
from backend_gpu.jobs.job import MAX_SEED, Job, JobRequest, Progress
from backend_gpu.service import Service


def job_document(service: Service, job: Job, places: Mapping[str, Place] | None = None) -> JobDocument:
    """A job with its place, its expected time and its progress.

    Args:
        places: of the waiting jobs, where several documents are to agree.
    """
    place = eta_s = None
    if job.status == "queued":
        place = (service.worker.places() if places is None else places).get(job.id)
        if place is None:  # it was begun, or cancelled, since it was read
            job = service.store.get(job.id)
    if not job.has_ended:
        eta_s = service.worker.eta_s(job, place)
    live = service.worker.live(job.id)
    now = service.store.clock()  # which may have been ahead when the job was written down
    return JobDocument(
        id=job.id,
        status=job.status,
        request=JobRequestDocument.model_validate(job.request.to_json()),
        created_at=min(job.created_at, now),
        started_at=None if job.started_at is None else min(job.started_at, now),
        finished_at=None if job.finished_at is None else min(job.finished_at, now),
        position=place.position if place else None,
        eta_seconds=None if eta_s is None else round(eta_s, 2),
        progress=progress_document(live.progress) if live.progress and job.status == "running" else None,
        preview=data_url(live.preview) if live.preview and job.status == "running" else None,
        unknown_words=list(job.unknown_words),
        images=[
            ImageLink(index=index, seed=job.request.seed_of(index), url=f"/v1/jobs/{job.id}/images/{index}.png")
            for index in range(job.request.n if job.status == "succeeded" else 0)
        ],
        error=ErrorInfo(message=job.error.message, type="server_error", param=None, code=job.error.code)
        if job.error
        else None,
    )


def job_documents(service: Service, owner: str, limit: int) -> list[JobDocument]:
    """An owner's jobs, newest first, with places that agree."""
    places = service.worker.places()
    return [job_document(service, job, places) for job in service.store.of_owner(owner, limit)]


def status_document(service: Service) -> StatusDocument:
    """What the service does now."""
    worker = service.worker
    info = worker.engine.info if worker.engine else None
    queued, running = service.store.count("queued"), service.store.count("running")
    return StatusDocument(
        model=info.model if info else None,
        device=info.device if info else None,
        ready=worker.is_ready,
        load_error=worker.load_error or None,
        queued_jobs=queued,
        running_jobs=running,
        idle_seconds=0.0 if queued or running else worker.idle_s(),
        seconds_per_picture=worker.seconds_per_picture(),
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


def fingerprint_of(body: BaseModel) -> str:
    """The same for two bodies that ask for the same."""
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()


def job_request(submission: JobSubmission, info: EngineInfo) -> JobRequest:
    """A submission with the model's choices where the caller made none.

    Raises:
        BadParameter: it is for another model, or has a sampler that this one does not know.
    """
    if submission.model not in (None, info.model):
        raise BadParameter(f"there is no model {submission.model!r} here: use {info.model}", "model")
    if submission.sampler is not None and submission.sampler not in info.samplers:
        raise BadParameter(
            f"there is no sampler {submission.sampler!r} here: use one of {', '.join(info.samplers)}", "sampler"
        )
    return JobRequest(
        prompt=submission.prompt,
        source_prompt=submission.source_prompt,
        translator=submission.translator,
        negative_prompt=submission.negative_prompt,
        n=submission.n,
        seed=secrets.randbelow(MAX_SEED + 1) if submission.seed is None else submission.seed,
        guidance_scale=submission.guidance_scale or info.guidance_scale,
        steps=submission.steps or info.steps,
        upsample_steps=submission.upsample_steps or info.upsample_steps,
        sampler=submission.sampler or info.sampler,  # type: ignore[arg-type]  # one of info's
        upscale=submission.upscale,
        owner=submission.owner,
        model=info.model,
    )

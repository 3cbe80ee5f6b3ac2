"""From a submission to pictures, as all faces go: those that answer at once and those that wait for the pictures."""

from collections.abc import AsyncIterator

from fastapi.concurrency import run_in_threadpool

from backend_gpu.api.encoding import Encoding, encoded
from backend_gpu.api.errors import JobCancelled, JobFailed
from backend_gpu.api.events import job_changes
from backend_gpu.errors import JobNotFound
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.request import JobRequest, JobSubmission
from backend_gpu.jobs.retries import Claim
from backend_gpu.service import Service


async def draw(service: Service, submission: JobSubmission, claim: Claim) -> Job:
    """Submit, and wait for the pictures.

    Raises:
        BackendError: what `accept` and `finished` raise.
    """
    job = await run_in_threadpool(accept, service, submission, claim)
    return await finished(service, job.id)


def accept(service: Service, submission: JobSubmission, claim: Claim) -> Job:
    """The job that the claim's key has made before, or a new one.

    Raises:
        BackendError: what `Queue.earlier` and `submit` raise.
    """
    return service.queue.earlier(claim) or submit(service, submission, claim)


def submit(service: Service, submission: JobSubmission, claim: Claim) -> Job:
    """Make a job of a submission.

    Raises:
        ModelLoading: the model can't draw yet.
        InvalidRequest: this can't be drawn here.
        QueueFull, RateLimited: not now.
        IdempotencyConflict: the claim's key came before with another fingerprint.
        StorageUnavailable: it could not be written down, so it was not accepted.
    """
    return service.queue.submit(JobRequest.of(submission, service.queue.info()), claim)


async def finished(service: Service, job_id: str) -> Job:
    """The job when it has its pictures.

    Raises:
        JobFailed, JobCancelled: it has none.
        ServiceStopping: it will have them after the next start only.
    """
    async for changed in job_changes(service, job_id):
        job = changed
    if job.error:
        raise JobFailed(job.error.message, job.error.code)
    if job.status != "succeeded":
        raise JobCancelled("the job was cancelled")
    return job


async def previews(service: Service, job_id: str, wanted: int) -> AsyncIterator[bytes | None]:
    """At most so many different PNGs of an unfinished job, evenly spread, until it ends; None while it waits.

    Raises:
        ServiceStopping: it is drawn after the next start only.
    """
    sent, shown = 0, b""
    async for changed in job_changes(service, job_id):
        live = (await run_in_threadpool(service.queue.view, changed)).live
        fraction = live.progress.fraction if live.progress else 0.0
        is_due = sent < wanted and fraction >= (sent + 1) / (wanted + 1)
        if is_due and live.preview and live.preview != shown:
            shown = live.preview
            sent += 1
            yield shown
        elif changed.status == "queued":
            yield None


def picture(service: Service, job: Job, index: int, encoding: Encoding) -> bytes:
    """A finished picture.

    Raises:
        JobNotFound: the job has no such picture, or it was deleted.
        GalleryUnavailable: it is in the gallery, and that does not answer.
    """
    png = service.queue.picture(job, index)
    if png is None and job.status == "succeeded" and index < job.request.n:
        raise JobNotFound(f"picture {index} of job {job.id} was deleted")
    if png is None:
        raise JobNotFound(f"there is no picture {index} of job {job.id}: the job is {job.status}, of {job.request.n}")
    return encoded(png, encoding)

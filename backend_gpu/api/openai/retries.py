"""OpenAI's clients try again by themselves: a retry finds the job of its first try."""

import time

from backend_gpu.api.bodies import fingerprint_of
from backend_gpu.api.drawing import submit
from backend_gpu.api.models import model_names
from backend_gpu.api.openai.schemas import ImageGeneration
from backend_gpu.engine import EngineInfo
from backend_gpu.errors import BadParameter, ModelLoading, QueueFull, RateLimited, StorageUnavailable
from backend_gpu.jobs.job import Job
from backend_gpu.jobs.retries import Claim
from backend_gpu.service import Service

RETRY_WINDOW_S = 900.0  # a client's retry belongs to the job that the same body made so long ago
FAILURE_RETRY_S = 60.0  # and if that has ended without pictures, for so long after its end: clients come sooner


def accept(service: Service, generation: ImageGeneration, key: str | None, *, is_retry: bool) -> Job:
    """A new job; for a key that came before, or a client's own retry, the one that its first try made."""
    claim = Claim(owner=generation.owner, key=key, fingerprint=fingerprint_of(generation))
    job = service.queue.earlier(claim)
    if is_retry and not service.queue.was_refused(claim):
        job = earlier_try(service, claim)
    if job:
        return job
    try:
        info = service.queue.info()
        check_model(generation.model, info)
        return submit(service, generation.submission(info), claim)
    except (ModelLoading, QueueFull, RateLimited, StorageUnavailable):
        service.queue.note_refusal(claim)
        raise


def earlier_try(service: Service, claim: Claim) -> Job | None:
    """The job that a client's first try has made; to those who come soon a failure is repeated."""
    now = time.time()
    job = service.queue.newest(claim, now - RETRY_WINDOW_S)
    if job and job.status in ("failed", "cancelled") and now - (job.finished_at or now) > FAILURE_RETRY_S:
        return None
    return job


def check_model(name: str | None, info: EngineInfo) -> None:
    """Take the model's own name and those that clients send by themselves.

    Raises:
        BadParameter: another name.
    """
    if name is not None and name not in model_names(info):
        raise BadParameter(f"there is no model {name!r} here: use {info.model}", "model")

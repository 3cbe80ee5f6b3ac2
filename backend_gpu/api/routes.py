"""The native face: jobs, pictures, status. Routes parse, call and return."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sse_starlette import EventSourceResponse

from backend_gpu.api.bodies import BodyRoute, fingerprint_of
from backend_gpu.api.dependencies import CurrentService, IdempotencyKey, JobId, bearer
from backend_gpu.api.documents import job_document, status_document
from backend_gpu.api.drawing import accept, picture
from backend_gpu.api.encoding import QUALITY, Encoding, ImageFormat, ImageSize
from backend_gpu.api.errors import BodyTooLarge, Unauthorized, WrongHost, errors, guarded_errors
from backend_gpu.api.events import end_id, event_stream, job_events
from backend_gpu.api.gate import has_token
from backend_gpu.api.schemas import HealthDocument, JobDocument, JobList, StatusDocument
from backend_gpu.api.signed_urls import verify_signature
from backend_gpu.errors import (
    BadParameter,
    ContentRefused,
    GalleryUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    ModelLoading,
    QueueFull,
    RateLimited,
    StorageUnavailable,
)
from backend_gpu.jobs.request import MAX_PICTURES, OWNER, JobSubmission
from backend_gpu.jobs.retries import Claim

MAX_LISTED = 200

open_routes = APIRouter()
guarded_routes = APIRouter(prefix="/v1", dependencies=[Depends(bearer)], route_class=BodyRoute)
metrics_routes = APIRouter(dependencies=[Depends(bearer)])
picture_routes = APIRouter(prefix="/v1", dependencies=[Depends(bearer)])  # a signature in the URL will do


@guarded_routes.post(
    "/jobs",
    status_code=202,
    response_description="The job, accepted.",
    responses=guarded_errors(
        *(BadParameter, InvalidRequest, ContentRefused, IdempotencyConflict, BodyTooLarge),
        *(QueueFull, RateLimited, ModelLoading, StorageUnavailable),
    ),
    tags=["jobs"],
)
def submit_job(
    submission: JobSubmission,
    service: CurrentService,
    idempotency_key: IdempotencyKey = None,
) -> JobDocument:
    """Accept a job: it is on disk when this answers, and will be drawn whatever happens to the process."""
    claim = Claim(owner=submission.owner, key=idempotency_key, fingerprint=fingerprint_of(submission))
    return job_document(service.queue.view(accept(service, submission, claim)))


@guarded_routes.get(
    "/jobs",
    response_description="The jobs.",
    responses=guarded_errors(BadParameter, StorageUnavailable),
    tags=["jobs"],
)
def list_jobs(
    service: CurrentService,
    owner: Annotated[str, Query(pattern=f"^{OWNER.pattern}$", description="whose jobs", examples=["anonymous"])],
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="at most so many")] = 50,
) -> JobList:
    """An owner's jobs, newest first; ended ones for as long as they are kept."""
    return JobList(data=[job_document(view) for view in service.queue.views(service.queue.jobs(owner, limit))])


@guarded_routes.get(
    "/jobs/{job_id}",
    response_description="The job.",
    responses=guarded_errors(BadParameter, JobNotFound, StorageUnavailable),
    tags=["jobs"],
)
def read_job(job_id: JobId, service: CurrentService) -> JobDocument:
    """A job as it is now."""
    return job_document(service.queue.view(service.queue.job(job_id)))


@guarded_routes.post(
    "/jobs/{job_id}/cancel",
    response_description="The job, which has ended.",
    responses=guarded_errors(BadParameter, JobNotFound, BodyTooLarge, StorageUnavailable),
    tags=["jobs"],
)
def cancel_job(job_id: JobId, service: CurrentService) -> JobDocument:
    """Cancel a job that has not ended, running or not; one that has ended stays as it is."""
    return job_document(service.queue.view(service.queue.cancel(job_id)))


@guarded_routes.get(
    "/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"example": 'event: job\ndata: {"id": "…", "status": "running", …}\n\n'}},
            "description": "Events named `job`; comments (`: still here`) in between. The last one has an id.",
        },
        204: {"description": "There is nothing after the event that `Last-Event-ID` names: the job has ended."},
        **guarded_errors(BadParameter, JobNotFound, StorageUnavailable),
    },
    tags=["jobs"],
)
async def follow_job(
    job_id: JobId,
    service: CurrentService,
    last_event_id: Annotated[
        str | None, Header(description="the last event's id, as browsers send it by themselves when they connect again")
    ] = None,
) -> Response:
    """Server-Sent Events: one `job` with the whole document at every change, until the job has ended.

    The event of the end has an `id`; a browser's EventSource that then connects again gets 204 and stops.
    """
    job = await run_in_threadpool(service.queue.job, job_id)  # a 404 comes as such
    if last_event_id is not None and last_event_id == end_id(job):
        return Response(status_code=204)
    return event_stream(job_events(service, job_id))


@picture_routes.get(
    "/jobs/{job_id}/images/{index}.{image_format}",
    response_class=Response,
    responses={
        200: {"content": {f"image/{name}": {} for name in ("png", "webp", "jpeg")}, "description": "The picture."},
        **guarded_errors(BadParameter, JobNotFound, GalleryUnavailable, StorageUnavailable),
    },
    tags=["jobs"],
)
def read_picture(
    job_id: JobId,
    index: Annotated[int, Path(ge=0, le=MAX_PICTURES - 1, description="which picture of the job")],
    image_format: Annotated[ImageFormat, Path(description="each holds how the picture was made")],
    service: CurrentService,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    size: Annotated[ImageSize | None, Query(description="side in pixels, resampled; as it was drawn if absent")] = None,
    quality: Annotated[int, Query(ge=0, le=100, description="of webp and jpeg")] = QUALITY,
    expires: Annotated[int, Query(description="of a signed URL")] = 0,
    signature: Annotated[str, Query(max_length=64, description="of a signed URL, instead of the token")] = "",
) -> Response:
    """A finished picture."""
    if not has_token(service, authorization) and not verify_signature(service, job_id, index, expires, signature):
        raise Unauthorized("send the service's token as 'Authorization: Bearer …', or use a URL that has not expired")
    encoding = Encoding(image_format=image_format, side=size, quality=quality)
    content = picture(service, service.queue.job(job_id), index, encoding)
    return Response(content, media_type=f"image/{image_format}", headers={"Cache-Control": "private, max-age=86400"})


@guarded_routes.get(
    "/status",
    response_description="What it does.",
    responses=guarded_errors(StorageUnavailable),
    tags=["service"],
)
def read_status(service: CurrentService) -> StatusDocument:
    """What the service does now."""
    return status_document(service.queue.status())


@metrics_routes.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"example": "kotoe_queued_jobs 0.0\n"}}, "description": "The figures."},
        **guarded_errors(StorageUnavailable),
    },
    tags=["service"],
)
def read_metrics(service: CurrentService) -> Response:
    """Figures in the format of Prometheus."""
    service.metrics.queued_jobs.set(service.queue.status().queued_jobs)
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@open_routes.get("/healthz", response_description="It is.", responses=errors(WrongHost), tags=["service"])
async def read_health() -> HealthDocument:
    """The process is alive."""
    return HealthDocument()


@open_routes.get(
    "/readyz",
    response_description="It is ready.",
    responses=errors(ModelLoading, StorageUnavailable, WrongHost),
    tags=["service"],
)
def read_readiness(service: CurrentService) -> HealthDocument:
    """The model is loaded and has drawn a step, and the disk takes jobs and pictures."""
    service.queue.check_ready()
    return HealthDocument()

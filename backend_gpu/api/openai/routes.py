"""OpenAI's Images API over the same queue, as the official clients speak it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from backend_gpu.api.bodies import BodyRoute
from backend_gpu.api.dependencies import CurrentService, IdempotencyKey, bearer
from backend_gpu.api.drawing import finished, picture
from backend_gpu.api.encoding import Encoding
from backend_gpu.api.errors import BodyTooLarge, JobCancelled, JobFailed, guarded_errors
from backend_gpu.api.events import event_stream
from backend_gpu.api.hosts import address_for
from backend_gpu.api.openai.retries import accept
from backend_gpu.api.openai.schemas import GeneratedImage, ImageGeneration, ImagesResponse, as_b64
from backend_gpu.api.openai.streaming import stream_events
from backend_gpu.api.signed_urls import signed_query
from backend_gpu.errors import (
    BadParameter,
    ContentRefused,
    GalleryUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    ModelLoading,
    OutOfMemory,
    QueueFull,
    RateLimited,
    ServiceStopping,
    StorageUnavailable,
)
from backend_gpu.jobs.job import Job
from backend_gpu.service import Service

STREAM_EXAMPLE = (
    'event: image_generation.completed\ndata: {"type": "image_generation.completed", "b64_json": "…", …}\n\n'
)

routes = APIRouter(prefix="/v1", dependencies=[Depends(bearer)], route_class=BodyRoute, tags=["OpenAI Images"])


@routes.post(
    "/images/generations",
    responses={
        200: {
            "content": {"text/event-stream": {"example": STREAM_EXAMPLE}},
            "description": 'The pictures; with `stream` as events, and an error in the stream as `data: {"error": …}`.',
        },
        **guarded_errors(
            *(BadParameter, InvalidRequest, ContentRefused, JobCancelled, IdempotencyConflict, BodyTooLarge),
            *(QueueFull, RateLimited, JobNotFound, JobFailed),
            *(ModelLoading, ServiceStopping, StorageUnavailable, GalleryUnavailable, OutOfMemory),
        ),
    },
    response_model=ImagesResponse,
)
async def generate_images(
    generation: ImageGeneration,
    request: Request,
    service: CurrentService,
    idempotency_key: IdempotencyKey = None,
    x_stainless_retry_count: Annotated[int, Header(ge=0, description="set by OpenAI's clients")] = 0,
) -> ImagesResponse | Response:
    """Draw pictures as OpenAI's Images API does, and answer when they are done.

    `extra_body` may hold the fields that are ours: from `seed` on. A job that fails is a 500 with the code of its error
    (`engine_failed`, `engine_crashed`, `out_of_memory`, `model_not_found`), one that was cancelled a 400 (`cancelled`).
    A client's own retry finds the job of its first try, whatever became of it; so does an `Idempotency-Key`. Edits and
    variations are not supported.
    """
    is_retry = idempotency_key is None and x_stainless_retry_count > 0
    job = await run_in_threadpool(accept, service, generation, idempotency_key, is_retry=is_retry)
    encoding = generation.encoding(service.queue.info())
    if generation.stream:
        return event_stream(stream_events(service, generation, encoding, job))
    job = await finished(service, job.id)
    own_address = address_for(service.settings, request.scope)
    images = await run_in_threadpool(finished_images, service, generation, encoding, job, own_address)
    return ImagesResponse(
        created=int(job.created_at),
        data=images,
        unknown_words=list(job.unknown_words),
        **generation.sent_as(encoding),
    )


def finished_images(
    service: Service, generation: ImageGeneration, encoding: Encoding, job: Job, base_url: str
) -> list[GeneratedImage]:
    """The pictures of a job that has succeeded."""
    images = []
    for index in range(job.request.n):
        image = GeneratedImage(revised_prompt=job.request.prompt, seed=job.request.seed_of(index))
        if generation.wants_urls:
            size = f"size={generation.asked_side}" if generation.asked_side else ""
            query = "&".join(filter(None, (signed_query(service, job.id, index), size, f"quality={encoding.quality}")))
            image.url = f"{base_url}/v1/jobs/{job.id}/images/{index}.{encoding.image_format}?{query}"
        else:
            image.b64_json = as_b64(picture(service, job, index, encoding))
        images.append(image)
    return images

"""OpenAI's Images API over the same queue, as the official clients speak it."""

import base64
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from sse_starlette import ServerSentEvent

from backend_gpu.api.bodies import BodyRoute
from backend_gpu.api.documents import fingerprint_of, job_request
from backend_gpu.api.encoding import QUALITY, ImageFormat, encoded, signed_query
from backend_gpu.api.errors import BodyTooLarge, JobCancelled, error_document, guarded_errors
from backend_gpu.api.hosts import address_for
from backend_gpu.api.routes import CurrentService, IdempotencyKey, bearer, event_stream, job_changes
from backend_gpu.api.schemas import (
    Count,
    ErrorDocument,
    ErrorInfo,
    GuidanceScale,
    JobSubmission,
    NegativePrompt,
    Number,
    Prompt,
    Seed,
    SourcePrompt,
    Steps,
    UpsampleSteps,
)
from backend_gpu.engine import EngineInfo
from backend_gpu.errors import (
    BackendError,
    BadParameter,
    ContentRefused,
    GalleryUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    ModelLoading,
    ModelNotFound,
    OutOfMemory,
    QueueFull,
    RateLimited,
    ServiceStopping,
    StorageUnavailable,
)
from backend_gpu.glide.config import SamplerName
from backend_gpu.jobs.intake import Claim
from backend_gpu.jobs.job import Job
from backend_gpu.service import Service
from backend_gpu.settings import MODEL_IDS

logger = logging.getLogger(__name__)

RETRY_WINDOW_S = 900.0  # a client's retry belongs to the job that the same body made so long ago
FAILURE_RETRY_S = 60.0  # and if that has ended without pictures, for so long after its end: clients come sooner
URL_MODELS = (None, "dall-e-2", "dall-e-3")  # whose clients expect URLs unless they ask for base64
ALIASES = (
    *("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "chatgpt-image-latest"),
    *("dall-e-2", "dall-e-3"),
)
Size = Literal["auto", "64x64", "256x256", "512x512", "1024x1024"]
SIDES: dict[Size, int] = {"auto": 256, "64x64": 64, "256x256": 256, "512x512": 512, "1024x1024": 1024}
STEPS_SHARE = {
    "low": 0.5,
    "standard": 1.0,
    "medium": 1.0,
    "auto": 1.0,
    "high": 2.0,
    "hd": 2.0,
    "xhigh": 3.0,
    "max": 3.0,
}
STREAM_EXAMPLE = (
    'event: image_generation.completed\ndata: {"type": "image_generation.completed", "b64_json": "…", …}\n\n'
)
RESPONSE_FORMAT = "if absent: url for dall-e-2, dall-e-3 and no model at all, b64_json for all others"
Quality = Literal["auto", "low", "medium", "standard", "high", "hd", "xhigh", "max"]

routes = APIRouter(prefix="/v1", dependencies=[Depends(bearer)], route_class=BodyRoute, tags=["OpenAI Images"])


class ImageGeneration(BaseModel):
    """What OpenAI's clients send; fields of theirs that mean nothing here are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"prompt": "a red apple on a blue background", "size": "256x256", "seed": 7},
                {"prompt": "a cat", "model": "gpt-image-1", "n": 2, "response_format": "url", "output_format": "webp"},
                {"prompt": "a cat", "stream": True, "partial_images": 2, "user": "taro"},
            ]
        },
    )

    prompt: Prompt
    model: Annotated[str | None, Field(description="kotoe-mini, glide or an alias: what runs is what answers")] = None
    n: Annotated[Count | None, Field(description="number of pictures")] = None
    size: Annotated[Size | None, Field(description="auto is 256x256; larger sizes are resampled from that")] = None
    quality: Annotated[Quality | None, Field(description="scales the model's own number of steps")] = None
    response_format: Annotated[Literal["url", "b64_json"] | None, Field(description=RESPONSE_FORMAT)] = None
    output_format: Annotated[ImageFormat | None, Field(description="png if absent; each holds how it was made")] = None
    output_compression: Annotated[
        Annotated[int, Number, Field(ge=0, le=100)] | None, Field(description="quality of webp and jpeg")
    ] = None
    stream: Annotated[StrictBool | None, Field(description="Server-Sent Events instead of one answer")] = None
    partial_images: Annotated[
        Annotated[int, Number, Field(ge=0, le=3)] | None, Field(description="previews in the stream")
    ] = None
    user: Annotated[str | None, Field(max_length=512, description="whose job it is; kept as a hash")] = None
    safety_identifier: Annotated[str | None, Field(max_length=512, description="like user")] = None
    seed: Seed = None
    steps: Steps = None
    upsample_steps: UpsampleSteps = None
    guidance_scale: GuidanceScale = None
    negative_prompt: Annotated[NegativePrompt | None, Field(description="what to stay away from")] = None
    sampler: Annotated[SamplerName | None, Field(description="the model's choice if absent")] = None
    source_prompt: Annotated[SourcePrompt | None, Field(description="what the user typed, kept in the picture")] = None

    @property
    def wants_urls(self) -> bool:
        """Of the pictures, instead of the pictures themselves."""
        return self.response_format == "url" or (self.response_format is None and self.model in URL_MODELS)

    @property
    def side(self) -> int:
        """Of the pictures, in pixels."""
        return SIDES[self.size or "auto"]

    @property
    def compression(self) -> int:
        """Quality of webp and jpeg."""
        return QUALITY if self.output_compression is None else self.output_compression

    @property
    def owner(self) -> str:
        """Whose job it is, told apart by what the caller says and kept as a hash."""
        name = self.safety_identifier or self.user
        return hashlib.sha256(name.encode()).hexdigest()[:32] if name else "openai"

    def submission(self, info: EngineInfo) -> JobSubmission:
        """The same on the native face."""
        scaled = round(info.steps * STEPS_SHARE[self.quality or "auto"])
        return JobSubmission(
            prompt=self.prompt,
            source_prompt=self.source_prompt or "",
            negative_prompt=self.negative_prompt or "",
            n=self.n or 1,
            seed=self.seed,
            guidance_scale=self.guidance_scale,
            steps=self.steps or scaled,
            upsample_steps=self.upsample_steps,
            sampler=self.sampler,
            upscale=self.side > 64,
            owner=self.owner,
        )


class GeneratedImage(BaseModel):
    """One picture."""

    b64_json: Annotated[str | None, Field(description="the picture, if asked for so")] = None
    url: Annotated[str | None, Field(description="where it can be fetched, if asked for so; good for an hour")] = None
    revised_prompt: Annotated[str, Field(description="the English that was drawn")]
    seed: Annotated[int, Field(description="send it to get this picture again")]


class Usage(BaseModel):
    """Counts that clients expect."""

    input_tokens: Annotated[int, Field(description="always 0: nothing is billed")] = 0
    output_tokens: Annotated[int, Field(description="always 0")] = 0
    total_tokens: Annotated[int, Field(description="always 0")] = 0
    input_tokens_details: Annotated[dict[str, int], Field(description="always zeros")] = {  # pydantic copies it
        "image_tokens": 0,
        "text_tokens": 0,
    }


class ImagesResponse(BaseModel):
    """All pictures at once."""

    created: Annotated[int, Field(description="when the job was accepted, seconds since 1970")]
    background: Annotated[Literal["opaque"], Field(description="always opaque")] = "opaque"
    output_format: Annotated[ImageFormat, Field(description="of the pictures sent")]
    quality: Annotated[Quality, Field(description="as asked for")]
    size: Annotated[str, Field(description="of the pictures sent")]
    usage: Annotated[Usage, Field(description="always zeros")] = Usage()
    unknown_words: Annotated[list[str], Field(description="words that the model does not know and left out")]
    data: Annotated[list[GeneratedImage], Field(description="the pictures")]


class ModelInfo(BaseModel):
    """A model, or another name that clients use for it."""

    id: Annotated[str, Field(description="what `model` may be")]
    object: Annotated[Literal["model"], Field(description="always model")] = "model"
    created: Annotated[int, Field(description="seconds since 1970")] = 1640000000
    owned_by: Annotated[str, Field(description="always kotoe")] = "kotoe"


class ModelList(BaseModel):
    """All names that `model` may have."""

    object: Annotated[Literal["list"], Field(description="always list")] = "list"
    data: Annotated[list[ModelInfo], Field(description="the model's own name first")]


@routes.post(
    "/images/generations",
    responses={
        200: {
            "content": {"text/event-stream": {"example": STREAM_EXAMPLE}},
            "description": 'The pictures; with `stream` as events, and an error in the stream as `data: {"error": …}`.',
        },
        **guarded_errors(
            *(BadParameter, InvalidRequest, ContentRefused, JobCancelled, IdempotencyConflict, BodyTooLarge),
            *(QueueFull, RateLimited, JobNotFound),
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
    retry = idempotency_key is None and x_stainless_retry_count > 0
    job = await run_in_threadpool(accept, service, generation, idempotency_key, is_retry=retry)
    if generation.stream:
        return event_stream(stream_events(service, generation, job))
    async for changed in job_changes(service, job.id):
        job = changed
    if job.status != "succeeded":
        status = 400 if job.status == "cancelled" else 500  # clients that don't know the header try again from 500 on
        return JSONResponse(failure(job).model_dump(), status, {"x-should-retry": "false"})
    own_address = address_for(service.settings, request.scope)
    images = await run_in_threadpool(finished_images, service, generation, job, own_address)
    return ImagesResponse(
        created=int(job.created_at), data=images, unknown_words=list(job.unknown_words), **told(generation)
    )


def accept(service: Service, generation: ImageGeneration, key: str | None, *, is_retry: bool) -> Job:
    """A new job; for a key that came before, or a client's own retry, the one that its first try made."""
    claim = Claim(owner=generation.owner, key=key, fingerprint=fingerprint_of(generation))
    earlier = service.intake.earlier(claim)
    if is_retry and not service.intake.was_refused(claim):
        earlier = earlier_try(service, claim)
    if earlier:
        return earlier
    try:
        info = service.intake.engine().info
        check_model(generation.model, info)
        return service.intake.accept(job_request(generation.submission(info), info), claim)
    except (ModelLoading, QueueFull, RateLimited, StorageUnavailable):
        service.intake.note_refusal(claim)
        raise


def earlier_try(service: Service, claim: Claim) -> Job | None:
    """The job that a client's first try has made; a failure is told again, not drawn again, to those who come soon."""
    now = time.time()
    job = service.store.newest(claim.owner, claim.fingerprint, now - RETRY_WINDOW_S)
    if job and job.status in ("failed", "cancelled") and now - (job.finished_at or now) > FAILURE_RETRY_S:
        return None
    return job


def check_model(name: str | None, info: EngineInfo) -> None:
    """Take the model's own name and those that clients send by themselves.

    Raises:
        BadParameter: another name.
    """
    if name is not None and name not in (info.model, *ALIASES):
        raise BadParameter(f"there is no model {name!r} here: use {info.model}", "model")


def told(generation: ImageGeneration) -> dict[str, Any]:
    """What every answer says about its pictures."""
    return {
        "output_format": generation.output_format or "png",
        "quality": generation.quality or "auto",
        "size": f"{generation.side}x{generation.side}",
    }


def finished_images(service: Service, generation: ImageGeneration, job: Job, base_url: str) -> list[GeneratedImage]:
    """The pictures of a job that has succeeded."""
    images = []
    for index in range(job.request.n):
        image = GeneratedImage(revised_prompt=job.request.prompt, seed=job.request.seed_of(index))
        if generation.wants_urls:
            wish = f"size={generation.side}&quality={generation.compression}"
            query = "&".join(filter(None, (signed_query(service, job.id, index), wish)))
            path = f"/v1/jobs/{job.id}/images/{index}.{generation.output_format or 'png'}"
            image.url = f"{base_url}{path}?{query}"
        else:
            image.b64_json = picture_b64(service, generation, job, index)
        images.append(image)
    return images


def picture_b64(service: Service, generation: ImageGeneration, job: Job, index: int) -> str:
    """A picture in the format and size that were asked for."""
    png = service.pictures.read(job, index)
    if png is None:
        raise JobNotFound(f"picture {index} of job {job.id} was deleted")
    return as_b64(generation, png, generation.side)


def as_b64(generation: ImageGeneration, png: bytes, side: int | None = None) -> str:
    content = encoded(png, generation.output_format or "png", side, generation.compression)
    return base64.b64encode(content).decode("ascii")


async def stream_events(service: Service, generation: ImageGeneration, job: Job) -> AsyncIterator[ServerSentEvent]:
    """Previews while it is drawn, then every picture; an error as one more event, which raises in OpenAI's clients."""
    common = {"created_at": int(job.created_at), "background": "opaque", **told(generation)}
    try:
        async for event in partial_images(service, generation, job, common):
            yield event
        job = await run_in_threadpool(service.store.get, job.id)
        if job.status != "succeeded":
            yield ServerSentEvent(data=failure(job).model_dump_json())
            return
        for index in range(job.request.n):
            b64_json = await run_in_threadpool(picture_b64, service, generation, job, index)
            fields = {"b64_json": b64_json, "index": index, "seed": job.request.seed_of(index)}
            yield sse("image_generation.completed", fields | common | {"usage": Usage().model_dump()})
    except BackendError as error:
        yield ServerSentEvent(data=error_document(error).model_dump_json())


async def partial_images(
    service: Service, generation: ImageGeneration, job: Job, common: dict[str, Any]
) -> AsyncIterator[ServerSentEvent]:
    """Previews until the job has ended; news of the queue as comments, which clients skip."""
    wanted, sent, shown = generation.partial_images or 0, 0, b""
    async for changed in job_changes(service, job.id):
        live = service.worker.live(job.id)
        fraction = live.progress.fraction if live.progress else 0.0
        is_due = sent < wanted and fraction >= (sent + 1) / (wanted + 1)
        if is_due and live.preview and live.preview != shown:
            shown = live.preview
            b64_json = await run_in_threadpool(as_b64, generation, live.preview)
            yield sse("image_generation.partial_image", {"b64_json": b64_json, "partial_image_index": sent} | common)
            sent += 1
        elif changed.status == "queued":
            yield ServerSentEvent(comment="queued")


def sse(name: str, fields: dict[str, Any]) -> ServerSentEvent:
    """An event whose type stands in its data too, as OpenAI's clients read it; never with an id."""
    return ServerSentEvent(event=name, data=json.dumps({"type": name} | fields))


def failure(job: Job) -> ErrorDocument:
    """Why there are no pictures; in a stream it raises in the client."""
    if job.error:
        info = ErrorInfo(message=job.error.message, type="server_error", param=None, code=job.error.code)
        return ErrorDocument(error=info)
    return error_document(JobCancelled("the job was cancelled"))


@routes.get("/models", response_description="The models.", responses=guarded_errors())
async def list_models(service: CurrentService) -> ModelList:
    """The model that draws, and the names that clients use by themselves."""
    return ModelList(data=[ModelInfo(id=name) for name in model_names(service)])


@routes.get(
    "/models/{model_id}",
    response_description="The model.",
    responses=guarded_errors(BadParameter, ModelNotFound),
)
async def read_model(
    model_id: Annotated[str, Path(max_length=64, description="kotoe-mini, glide or an alias")], service: CurrentService
) -> ModelInfo:
    """One of the models."""
    if model_id not in model_names(service):
        raise ModelNotFound(f"there is no model {model_id!r} here")
    return ModelInfo(id=model_id)


def model_names(service: Service) -> tuple[str, ...]:
    """The names that `model` may have."""
    return (MODEL_IDS[service.settings.model], *ALIASES)

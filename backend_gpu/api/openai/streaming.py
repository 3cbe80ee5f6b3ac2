"""The stream of OpenAI's face: previews, then the pictures."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sse_starlette import ServerSentEvent

from backend_gpu.api.drawing import finished, picture, previews
from backend_gpu.api.encoding import Encoding, encoded
from backend_gpu.api.errors import error_document
from backend_gpu.api.openai.schemas import ImageGeneration, Usage, as_b64
from backend_gpu.errors import BackendError
from backend_gpu.jobs.job import Job
from backend_gpu.service import Service


async def stream_events(
    service: Service, generation: ImageGeneration, encoding: Encoding, job: Job
) -> AsyncIterator[ServerSentEvent]:
    """Previews while it is drawn, then every picture; an error as one more event, which raises in OpenAI's clients."""
    common = {"created_at": int(job.created_at), "background": "opaque", **generation.sent_as(encoding)}
    try:
        partials = 0
        async for preview in previews(service, job.id, generation.partial_images or 0):
            if preview is None:
                yield ServerSentEvent(comment="queued")  # which clients skip
                continue
            content = await run_in_threadpool(encoded, preview, replace(encoding, side=None))
            fields = {"b64_json": as_b64(content), "partial_image_index": partials}
            yield sse("image_generation.partial_image", fields | common)
            partials += 1
        job = await finished(service, job.id)
        for index in range(job.request.n):
            content = await run_in_threadpool(picture, service, job, index, encoding)
            fields = {"b64_json": as_b64(content), "index": index, "seed": job.request.seed_of(index)}
            yield sse("image_generation.completed", fields | common | {"usage": Usage().model_dump()})
    except BackendError as error:
        yield ServerSentEvent(data=error_document(error).model_dump_json())


def sse(name: str, fields: dict[str, Any]) -> ServerSentEvent:
    """An event whose type stands in its data too, as OpenAI's clients read it; never with an id."""
    return ServerSentEvent(event=name, data=json.dumps({"type": name} | fields))

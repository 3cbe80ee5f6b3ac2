"""Server-Sent Events: a job's changes, and a sign of life where there are none."""

from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent

from backend_gpu.api.documents import job_document
from backend_gpu.api.schemas import JobDocument
from backend_gpu.errors import ServiceStopping
from backend_gpu.jobs.job import ENDED, Job
from backend_gpu.service import Service

HEARTBEAT_S = 10.0
RESTART_S = 5.0  # after which those whose job has to wait for the service's next start may ask again


def event_stream(events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    """A stream with a comment every ten seconds, so that nothing in between takes it for dead."""
    return EventSourceResponse(
        events, ping=HEARTBEAT_S, sep="\n", ping_message_factory=lambda: ServerSentEvent(comment="still here")
    )


async def job_events(service: Service, job_id: str) -> AsyncIterator[ServerSentEvent]:
    """The job's document whenever it differs from the last one; no more once it has to wait for the next start."""
    sent = ""
    with suppress(ServiceStopping):
        async for job in job_changes(service, job_id):
            document = job_document(await run_in_threadpool(service.queue.view, job))
            if (text := document.model_dump_json()) != sent:
                sent = text
                yield ServerSentEvent(event="job", data=text, id=end_id(document))


def end_id(job: Job | JobDocument) -> str | None:
    """The id of the event of a job's end."""
    return f"{job.id}-{job.status}" if job.status in ENDED else None


async def job_changes(service: Service, job_id: str) -> AsyncIterator[Job]:
    """The job now and after every change, until it has ended.

    Raises:
        ServiceStopping: it will end after the next start only.
    """
    with service.queue.listen(job_id) as changed:
        while True:
            changed.clear()
            job = await run_in_threadpool(service.queue.job, job_id)
            yield job
            if job.has_ended:
                return
            if job.status == "queued" and service.queue.is_stopping:
                raise ServiceStopping(f"the service restarts: job {job_id} is kept and drawn then", RESTART_S)
            await changed.wait()

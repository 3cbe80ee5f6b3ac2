"""The web app around a service: routes, errors, limits, request ids."""

import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend_gpu import logs
from backend_gpu.api import openai_images, page
from backend_gpu.api.errors import BodyTooLarge, Surprise, add_error_handlers, error_response
from backend_gpu.api.routes import guarded_routes, metrics_routes, open_routes, picture_routes
from backend_gpu.jobs.job import JOB_ID
from backend_gpu.service import Service

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
DESCRIPTION = """
English text in, pictures out. A job that was accepted (202) is on disk and will be drawn, whatever happens to the
process; follow it by polling, by Server-Sent Events, or use the OpenAI Images calls with any OpenAI client.

Errors have one form everywhere: `{"error": {"message", "type", "param", "code"}}`. Every answer has `x-request-id`.
"""


def create_app(service: Service) -> FastAPI:
    """Build the app; the service starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="Kotoe",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # the page is behind the token too: see page.py
        redirect_slashes=False,
    )
    app.state.service = service
    for routes in (open_routes, guarded_routes, metrics_routes, picture_routes, openai_images.routes, page.routes):
        app.include_router(routes)
    add_error_handlers(app)
    app.add_middleware(RequestFrame)
    return app


class RequestFrame:
    """Around every request: its id, one log line, and the limit on its body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        logs.request_id.set(request_id)
        started_at = time.monotonic()
        status = 0  # none was sent

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, await with_whole_body(scope, receive), send_with_id)
        except BodyTooLarge as error:
            await error_response(error)(scope, receive, send_with_id)
        except Exception:
            logger.exception("a request failed", extra=job_of(scope))
            if status:
                raise  # the connection is cut: nobody takes half an answer for a whole one
            surprise = Surprise("something went wrong inside the service: its log says what, under this x-request-id")
            await error_response(surprise)(scope, receive, send_with_id)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unknown")  # not what the caller wrote
            if path not in ("/healthz", "/readyz"):
                milliseconds = round(1000 * (time.monotonic() - started_at), 1)
                extra = {"method": scope["method"], "route": path, "status": status, "milliseconds": milliseconds}
                logger.info("request", extra=extra | job_of(scope))
        return None


def job_of(scope: Scope) -> dict[str, str]:
    """Which job a request is about, for the log."""
    job_id = str(scope.get("path_params", {}).get("job_id", ""))
    return {"job_id": job_id} if JOB_ID.fullmatch(job_id) else {}


async def with_whole_body(scope: Scope, receive: Receive) -> Receive:
    """Read the body before anything else does, counted while it comes, whatever its headers say.

    Returns: what gives the body again, and then what the server has to tell.

    Raises:
        BodyTooLarge: as soon as there is too much.
    """
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return receive
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return receive  # the caller has gone
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again

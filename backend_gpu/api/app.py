"""The web app around a service: routes, errors, limits, request ids."""

import logging
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend_gpu import logs
from backend_gpu.api import models, openapi
from backend_gpu.api.errors import add_error_handlers
from backend_gpu.api.gate import PROBES, CrossOrigin, Gate, job_of
from backend_gpu.api.openai.routes import routes as openai_routes
from backend_gpu.api.routes import guarded_routes, metrics_routes, open_routes, picture_routes
from backend_gpu.service import Service

logger = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
DESCRIPTION = """
English text in, pictures out. A job that was accepted (202) is on disk and will be drawn, whatever happens to the
process; follow it by polling, by Server-Sent Events, or use the OpenAI Images calls with any OpenAI client.

Errors have one form everywhere: `{"error": {"message", "type", "param", "code"}}`. Every answer has `x-request-id`.
Bodies are JSON in UTF-8, of at most 64 KiB, with `Content-Type: application/json`. HEAD is answered wherever GET is.
"""


def create_app(service: Service) -> FastAPI:
    """Build the app; the service starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.queue.start()
        stopping = threading.Event()
        threading.Thread(target=models.publish_description, args=(service, stopping), daemon=True).start()
        try:
            yield
        finally:
            stopping.set()
            service.queue.stop()

    app = FastAPI(
        title="Kotoe",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # the page is behind the token too: see openapi.py
        redirect_slashes=False,
    )
    app.state.service = service
    native_routes = (open_routes, guarded_routes, metrics_routes, picture_routes)
    for routes in (*native_routes, models.routes, openai_routes, openapi.routes):
        app.include_router(routes)
    openapi.correct_document(app)
    add_error_handlers(app)
    app.add_middleware(Gate, service=service)  # the last one added is the first that a request comes to
    if origins := service.settings.allowed_origins:
        app.add_middleware(CrossOrigin, origins=origins)
    app.add_middleware(RequestFrame)
    return app


def request_id_from(given: str) -> str:
    """The caller's own id if it is a proper one, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class RequestFrame:
    """Around every request: its id and one log line; HEAD is GET without what follows the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = request_id_from(Headers(scope=scope).get("x-request-id", ""))
        logs.request_id.set(request_id)
        started_at = time.monotonic()
        status = 0  # none was sent
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            elif method == "HEAD":
                return
            await send(message)
            if method == "HEAD":  # the answer ends here, so that a stream does not go on for nobody
                await send({"type": "http.response.body", "body": b""})

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unknown")  # not what the caller wrote
            if path not in PROBES:
                milliseconds = round(1000 * (time.monotonic() - started_at), 1)
                extra = {"method": method, "route": path, "status": status, "milliseconds": milliseconds}
                logger.info("request", extra=extra | job_of(scope))
        return None

"""Before the app: who may call it, and that each answer reaches its caller."""

import hmac
import logging
import re

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend_gpu.api.errors import BadOrigin, InternalError, Unauthorized, WrongHost, error_response
from backend_gpu.api.hosts import authority_of, is_local, name_of, set_names, take_absolute_target
from backend_gpu.errors import BackendError
from backend_gpu.jobs.job import JOB_ID
from backend_gpu.service import Service

logger = logging.getLogger(__name__)

PROBES = ("/healthz", "/readyz")
PICTURE = re.compile(rf"/v1/jobs/{JOB_ID.pattern}/images/[^/]+")


class Gate:
    """Lets in who uses a name of the service and has its token, before anything of the body is read."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service
        self.names = set_names(service.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            receive, send = reading_on(receive, send)
        has_begun = False

        async def send_noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            take_absolute_target(scope)
            self.check(scope)
            await self.app(scope, receive, send_noting)
        except BackendError as error:
            await error_response(error)(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody reads an answer
        except Exception:
            logger.exception("a request failed", extra=job_of(scope))
            if has_begun:
                raise  # the connection is cut: nobody takes half an answer for a whole one
            answer = error_response(
                InternalError("something went wrong inside the service: its log says what, under this x-request-id")
            )
            await answer(scope, receive, send)
        return None

    def check(self, scope: Scope) -> None:
        """Let only those pass who may call.

        Raises:
            WrongHost: without a token, a name that somebody else may have given to this machine.
            Unauthorized: the token is missing or wrong.
        """
        if not self.service.settings.token.get_secret_value():
            # Else any web page could let its own name lead here (DNS rebinding) and use the service through a browser
            authority = authority_of(scope)
            name = name_of(authority)
            if name is None or not (is_local(name) or name in self.names):
                raise WrongHost(
                    f"this service is not called {authority[:100]!r}: use 127.0.0.1 or localhost, set "
                    "BACKEND_PUBLIC_URL to the address that callers use, or set BACKEND_TOKEN"
                )
        elif not (
            scope["path"] in PROBES
            or (PICTURE.fullmatch(scope["path"]) and b"signature=" in scope["query_string"])  # its route checks that
            or has_token(self.service, Headers(scope=scope).get("authorization"))
        ):
            raise Unauthorized("send the service's token as 'Authorization: Bearer …'")


def has_token(service: Service, authorization: str | None) -> bool:
    """Whether a caller may do everything; compared in constant time."""
    token = service.settings.token.get_secret_value()
    scheme, _, given = (authorization or "").partition(" ")
    return not token or (scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()))


def job_of(scope: Scope) -> dict[str, str]:
    """Which job a request is about, for the log."""
    job_id = str(scope.get("path_params", {}).get("job_id", ""))
    return {"job_id": job_id} if JOB_ID.fullmatch(job_id) else {}


def reading_on(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Let a request with a body end only when the body has come, wanted or not.

    The whole answer is sent at once; but a connection that is closed while its client still sends is reset, and the
    answer may be lost with it. The server limits for how long a body may come.
    """
    has_come = False

    async def receive_noting() -> Message:
        nonlocal has_come
        message = await receive()
        has_come = has_come or not message.get("more_body", False)
        return message

    async def read_rest() -> None:
        while not has_come:
            await receive_noting()

    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False) and not has_come:
            await send({**message, "more_body": True})
            await read_rest()
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return receive_noting, send_all


class CrossOrigin(CORSMiddleware):
    """Lets pages of other sites call, with refusals in the form that all errors have."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_private_network=True,  # a browser asks so where the service is on its own machine or network
            allow_headers=("*",),  # Authorization, Idempotency-Key, Last-Event-ID, and what OpenAI's clients send
            expose_headers=("x-request-id", "Retry-After", "x-should-retry"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks whether it may."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        reason = bytes(answer.body).decode()
        refusal = error_response(
            BadOrigin(f"{reason}: BACKEND_CORS_ORIGINS says whose pages may GET and POST", "Origin")
        )
        allowed = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        refusal.headers.update(allowed)
        return refusal

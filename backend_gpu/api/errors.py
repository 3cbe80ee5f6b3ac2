"""How errors look over HTTP: decided here alone, the same on every face."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from backend_gpu.api.schemas import ErrorDocument, ErrorInfo
from backend_gpu.errors import (
    BackendError,
    BadParameter,
    CheckpointError,
    ConceptTableError,
    ContentRefused,
    GalleryUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    InvalidTransition,
    JobNotFound,
    ModelLoading,
    ModelNotFound,
    OutOfMemory,
    QueueFull,
    RateLimited,
    ServiceStopping,
    StorageDamaged,
    StorageUnavailable,
    TryLater,
)

MAX_RETRY_AFTER_S = 120  # clients wait no longer than this by themselves
MAX_QUOTED_CHARACTERS = 40  # of a wrong value in a message
NOT_SERVED = {
    f"/v1/images/{name}": f"this service makes no {name} of pictures: draw a new one from text with "
    "POST /v1/images/generations, with the seed of an earlier one to stay close to it"
    for name in ("edits", "variations")
}


class Unauthorized(BackendError):
    """The bearer token is missing or wrong."""


class BodyTooLarge(BackendError):
    """The request's body is larger than allowed."""


class WrongHost(BackendError):
    """The service has no token and is called by a name that is not its own."""


class BadOrigin(InvalidRequest):
    """A page of a site that may not call, or may not so."""


class MalformedRequest(BackendError):
    """What came is not HTTP."""


class HeadTooLarge(BackendError):
    """The request's line and headers are larger than allowed."""


class RequestTimeout(BackendError):
    """The request did not come to its end in time."""


class TooManyConnections(TryLater):
    """Every connection that may be open has a request in work."""


class JobFailed(BackendError):
    """The job failed; `code` says why, as in its document."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class JobCancelled(BackendError):
    """The job was cancelled before it had pictures."""


class InternalError(BackendError):
    """Something went wrong inside the service; its log says what."""


class Answer(NamedTuple):
    """What an error becomes."""

    status: int
    type: str
    code: str


ANSWER_TO: Mapping[type[BackendError], Answer] = {
    BackendError: Answer(500, "server_error", "internal_error"),
    BadOrigin: Answer(400, "invalid_request_error", "origin_not_allowed"),
    BadParameter: Answer(400, "invalid_request_error", "invalid_value"),
    BodyTooLarge: Answer(413, "invalid_request_error", "body_too_large"),
    CheckpointError: Answer(500, "server_error", "internal_error"),
    ConceptTableError: Answer(500, "server_error", "internal_error"),
    ContentRefused: Answer(400, "invalid_request_error", "content_policy_violation"),
    GalleryUnavailable: Answer(503, "server_error", "gallery_unavailable"),
    HeadTooLarge: Answer(431, "invalid_request_error", "head_too_large"),
    IdempotencyConflict: Answer(409, "invalid_request_error", "idempotency_conflict"),
    InvalidRequest: Answer(400, "invalid_request_error", "invalid_prompt"),
    InvalidTransition: Answer(409, "invalid_request_error", "invalid_transition"),
    JobCancelled: Answer(400, "invalid_request_error", "cancelled"),
    JobFailed: Answer(500, "server_error", "engine_failed"),
    JobNotFound: Answer(404, "invalid_request_error", "not_found"),
    MalformedRequest: Answer(400, "invalid_request_error", "malformed_request"),
    ModelLoading: Answer(503, "server_error", "model_loading"),
    ModelNotFound: Answer(404, "invalid_request_error", "model_not_found"),
    OutOfMemory: Answer(500, "server_error", "out_of_memory"),
    QueueFull: Answer(429, "rate_limit_error", "queue_full"),
    RateLimited: Answer(429, "rate_limit_error", "rate_limit_exceeded"),
    RequestTimeout: Answer(408, "invalid_request_error", "request_timeout"),
    ServiceStopping: Answer(503, "server_error", "service_stopping"),
    StorageDamaged: Answer(503, "server_error", "storage_damaged"),
    StorageUnavailable: Answer(503, "server_error", "storage_unavailable"),
    InternalError: Answer(500, "server_error", "internal_error"),
    TooManyConnections: Answer(503, "server_error", "too_many_connections"),
    Unauthorized: Answer(401, "authentication_error", "invalid_api_key"),
    WrongHost: Answer(421, "invalid_request_error", "wrong_host"),
}


def error_document(error: BackendError) -> ErrorDocument:
    """The body of the answer to an error."""
    answer = ANSWER_TO[type(error)]
    param = writable(error.param) if isinstance(error, InvalidRequest) else None
    code = error.code if isinstance(error, JobFailed) else answer.code
    return ErrorDocument(error=ErrorInfo(message=writable(str(error)), type=answer.type, param=param, code=code))


def writable(text: str) -> str:
    """A text as UTF-8 can hold it: half a surrogate pair, perhaps in a field's name, is escaped."""
    return text.encode(errors="backslashreplace").decode()


def error_response(error: BackendError) -> JSONResponse:
    """The whole answer to an error."""
    headers = {}
    if isinstance(error, TryLater):
        headers["Retry-After"] = str(min(MAX_RETRY_AFTER_S, max(1, round(error.retry_after_s))))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, IdempotencyConflict | JobFailed | JobCancelled):
        headers["x-should-retry"] = "false"  # OpenAI's clients would send it twice more
    return JSONResponse(error_document(error).model_dump(), ANSWER_TO[type(error)].status, headers)


def errors(*kinds: type[BackendError]) -> dict[int | str, dict[str, Any]]:
    """These errors as the OpenAPI document has them: by status, what each code means."""
    if StorageUnavailable in kinds:
        kinds = (*kinds, StorageDamaged)  # whoever reads the queue may find either
    documented: dict[int | str, dict[str, Any]] = {}
    for status in sorted({ANSWER_TO[kind].status for kind in kinds}):
        meanings = [(ANSWER_TO[kind], kind.__doc__) for kind in kinds if ANSWER_TO[kind].status == status]
        documented[status] = {
            "model": ErrorDocument,
            "description": " ".join(f"`{answer.code}`: {meaning}" for answer, meaning in meanings),
            "content": {
                "application/json": {
                    "examples": {
                        answer.code: {
                            "value": {
                                "error": {"message": meaning, "type": answer.type, "param": None, "code": answer.code}
                            }
                        }
                        for answer, meaning in meanings
                    }
                }
            },
        }
    return documented


def guarded_errors(*kinds: type[BackendError]) -> dict[int | str, dict[str, Any]]:
    """These errors beside those that every call behind the token has."""
    return errors(Unauthorized, WrongHost, InternalError, *kinds)


def bad_parameter(failure: Mapping[str, Any]) -> BadParameter:
    """What pydantic found, as one sentence that names the field, the limit and the value."""
    param = ".".join(str(part) for part in failure["loc"][1:]) or "body"
    value = failure["input"]
    is_short = isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_QUOTED_CHARACTERS)
    return BadParameter(f"{param}: {failure['msg']}{f', not {value!r}' if is_short else ''}", param)


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of the app leave in one form."""

    @app.exception_handler(BackendError)
    async def on_backend_error(_: Request, error: BackendError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(bad_parameter(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        message, headers = str(error.detail), error.headers
        if error.status_code == 404:
            message = NOT_SERVED.get(request.url.path.rstrip("/"), message)
        if error.status_code == 405:
            headers = {"Allow": ", ".join(methods_of(request))}
        info = ErrorInfo(message=message, type="invalid_request_error", param=None, code=code)
        return JSONResponse(ErrorDocument(error=info).model_dump(), error.status_code, headers)


def methods_of(request: Request) -> list[str]:
    """The methods that a request's path takes."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    gets = ["GET", "HEAD"] if takes("GET") else []
    return [*gets, "POST"] if takes("POST") else gets

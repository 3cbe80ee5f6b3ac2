"""How errors look over HTTP: decided here alone, the same on both faces."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from backend_gpu.api.schemas import ErrorDocument, ErrorInfo
from backend_gpu.errors import (
    BackendError,
    CheckpointError,
    ContentRefused,
    GalleryUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    InvalidTransition,
    JobNotFound,
    ModelLoading,
    OutOfMemory,
    QueueFull,
    RateLimited,
    StorageUnavailable,
)

logger = logging.getLogger(__name__)

MAX_RETRY_AFTER_S = 120  # clients wait no longer than this by themselves


class BadParameter(InvalidRequest):
    """A field of the request has an impossible value."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class Unauthorized(BackendError):
    """The bearer token is missing or wrong."""


class BodyTooLarge(BackendError):
    """The request's body is larger than allowed."""


class Answer(NamedTuple):
    """What an error becomes."""

    status: int
    type: str
    code: str


ANSWER_TO: Mapping[type[BackendError], Answer] = {
    BackendError: Answer(500, "server_error", "internal_error"),
    BadParameter: Answer(400, "invalid_request_error", "invalid_value"),
    BodyTooLarge: Answer(413, "invalid_request_error", "body_too_large"),
    CheckpointError: Answer(500, "server_error", "internal_error"),
    ContentRefused: Answer(400, "invalid_request_error", "content_policy_violation"),
    GalleryUnavailable: Answer(503, "server_error", "gallery_unavailable"),
    IdempotencyConflict: Answer(409, "invalid_request_error", "idempotency_conflict"),
    InvalidRequest: Answer(400, "invalid_request_error", "invalid_prompt"),
    InvalidTransition: Answer(409, "invalid_request_error", "invalid_transition"),
    JobNotFound: Answer(404, "invalid_request_error", "not_found"),
    ModelLoading: Answer(503, "server_error", "model_loading"),
    OutOfMemory: Answer(500, "server_error", "out_of_memory"),
    QueueFull: Answer(429, "rate_limit_error", "queue_full"),
    RateLimited: Answer(429, "rate_limit_error", "rate_limit_exceeded"),
    StorageUnavailable: Answer(503, "server_error", "storage_unavailable"),
    Unauthorized: Answer(401, "authentication_error", "invalid_api_key"),
}
PARAM_OF: Mapping[type[BackendError], str] = {InvalidRequest: "prompt", ContentRefused: "prompt"}


def error_document(error: BackendError) -> ErrorDocument:
    """The body that tells an error."""
    answer = ANSWER_TO[type(error)]
    param = error.param if isinstance(error, BadParameter) else PARAM_OF.get(type(error))
    return ErrorDocument(error=ErrorInfo(message=str(error), type=answer.type, param=param, code=answer.code))


def error_response(error: BackendError) -> JSONResponse:
    """The whole answer to an error."""
    headers = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(min(MAX_RETRY_AFTER_S, max(1, round(retry_after_s))))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_document(error).model_dump(), ANSWER_TO[type(error)].status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of the app leave in one form."""

    @app.exception_handler(BackendError)
    async def on_backend_error(_: Request, error: BackendError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
        param = ".".join(where) or "body"
        return error_response(BadParameter(f"{param}: {first['msg']}", param))

    @app.exception_handler(HTTPException)
    async def on_http_error(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        info = ErrorInfo(message=str(error.detail), type="invalid_request_error", param=None, code=code)
        return JSONResponse(ErrorDocument(error=info).model_dump(), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_surprise(_: Request, error: Exception) -> JSONResponse:
        logger.error("a request failed", exc_info=error)
        return error_response(BackendError("something went wrong inside the service; its log says what"))

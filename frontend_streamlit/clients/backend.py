"""The backend over HTTP: what the page may ask it, and what can go wrong, as types."""

import inspect
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import requests
from pydantic import BaseModel, ConfigDict
from requests.adapters import HTTPAdapter

from frontend_streamlit.clients.model import ModelDescription, read_description

Answer = TypeVar("Answer")
JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2.0, 10.0
MAX_CONNECTIONS = 32  # kept open for later calls
SUBMIT_PAUSES_S = (0.2, 0.8)  # between tries with one key: the same job, however often it arrives


class BackendError(Exception):
    """Something that the page has a sentence for; the message is the backend's, in English."""

    def __init__(self, message: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendUnavailable(BackendError):
    """The backend does not answer."""


class BackendUnreachable(BackendUnavailable):
    """Nobody is there: no connection, not even a broken one."""


class BackendBroken(BackendError):
    """The backend answers that something in it went wrong, or what nobody understands."""


class BackendRefusesToken(BackendError):
    """The page's token is wrong."""


class ModelLoading(BackendError):
    """The backend is up, its model is not yet."""


class StorageUnavailable(BackendError):
    """The backend can't write jobs down."""


class QueueFull(BackendError):
    """Too many jobs wait."""


class LimitReached(BackendError):
    """This user has asked for as much as is allowed for now."""


class BackendRefusesName(BackendError):
    """The backend has no token, and the page calls it by a name that is not its own."""


class ContentRefused(BackendError):
    """The prompt has a term that the operator refuses."""


class PromptRefused(BackendError):
    """The model can't draw that prompt: the message says why."""


class OtherModel(PromptRefused):
    """Another model draws than the one that the request names."""


class JobMissing(BackendError):
    """The backend does not know that job or picture (any more)."""


# By code; a code that stands nowhere here is the backend's own trouble, an answer without one is not the backend's.
ERROR_OF: Mapping[str, type[BackendError]] = {
    "model_loading": ModelLoading,
    "storage_unavailable": StorageUnavailable,
    "storage_damaged": StorageUnavailable,
    "queue_full": QueueFull,
    "rate_limit_exceeded": LimitReached,
    "content_policy_violation": ContentRefused,
    "invalid_prompt": PromptRefused,
    "invalid_value": PromptRefused,
    "invalid_api_key": BackendRefusesToken,
    "wrong_host": BackendRefusesName,
    "not_found": JobMissing,
    "service_stopping": BackendUnavailable,
    "too_many_connections": BackendUnavailable,
}


class JobRequest(BaseModel):
    """What to draw; None leaves a choice to the backend.

    It takes any other field too: the form's choices are sent as they are, and come back as they came.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    prompt: str
    owner: str
    source_prompt: str = ""
    translator: str = ""
    n: int = 1
    seed: int | None = None
    model: str | None = None  # that the choices were made for

    def with_new_seed(self) -> "JobRequest":
        """The same for a new seed."""
        return self.model_copy(update={"seed": None})

    def for_any_model(self) -> "JobRequest":
        """The same picture, with every choice left to whatever draws it."""
        return JobRequest(**self.model_dump(include=set(JobRequest.model_fields) - {"model"}))


@dataclass(frozen=True)
class Progress:
    """How far a running job is."""

    stage: str
    step: int
    total_steps: int
    fraction: float


@dataclass(frozen=True)
class Image:
    """One finished picture of a job."""

    index: int
    seed: int
    url: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the backend sends it."""

    id: str
    status: JobStatus
    request: JobRequest
    created_at: float
    position: int | None
    eta_s: float | None
    progress: Progress | None
    preview: str | None  # data URL
    unknown_words: tuple[str, ...]  # that the model left out
    images: tuple[Image, ...]
    error_code: str | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status not in ("queued", "running")


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the backend does now."""

    model: str | None
    device: str | None
    is_ready: bool
    queued_jobs: int
    running_jobs: int


class BackendClient:
    """Talks to one backend; safe to share between sessions."""

    def __init__(
        self, url: str, token: str = "", timeouts_s: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    ) -> None:
        self.url = url.rstrip("/")
        self._timeouts_s = timeouts_s
        self._session = requests.Session()
        self._session.mount("http", HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
        self._session.trust_env = False  # no proxy between the two, and no .netrc in place of the token
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def submit(self, request: JobRequest, key: str = "") -> Job:
        """Hand in a job; sent again with the same key if the connection breaks, so that it is made once.

        Choices that were made for another model than the one that draws now are left to that one.

        Args:
            key: to hand in the same job from several places; a new one if empty.

        Raises:
            BackendError: one of its kinds.
        """
        key = key or uuid.uuid4().hex
        try:
            return self._submit(request, key)
        except OtherModel:
            return self._submit(request.for_any_model(), f"{key}-any-model")  # one key is good for one body

    def _submit(self, request: JobRequest, key: str) -> Job:
        body = request.model_dump(exclude_none=True)
        headers = {"Idempotency-Key": key}
        for pause_s in SUBMIT_PAUSES_S:
            try:
                return self._call("POST", "/v1/jobs", read_job, json=body, headers=headers)
            except BackendUnreachable:
                raise
            except BackendUnavailable:
                time.sleep(pause_s)
        return self._call("POST", "/v1/jobs", read_job, json=body, headers=headers)

    def list_jobs(self, owner: str, limit: int) -> list[Job]:
        """The owner's jobs, newest first.

        Raises:
            BackendError: one of its kinds.
        """
        return self._call("GET", "/v1/jobs", read_jobs, params={"owner": owner, "limit": limit})

    def cancel(self, job_id: str) -> None:
        """Cancel a job that has not ended.

        Raises:
            BackendError: one of its kinds.
        """
        self._call("POST", f"/v1/jobs/{job_id}/cancel", read_job)

    def read_picture(self, image: Image) -> bytes:
        """A finished picture as PNG.

        Raises:
            BackendError: one of its kinds.
        """
        return self._response("GET", image.url).content

    def read_status(self) -> Status:
        """What the backend does now.

        Raises:
            BackendError: one of its kinds.
        """
        return self._call("GET", "/v1/status", read_status)

    def read_model(self, model_id: str) -> ModelDescription:
        """What a model says of itself.

        Raises:
            BackendError: one of its kinds.
        """
        return self._call("GET", f"/v1/models/{quote(model_id, safe='')}", read_description)

    def _call(self, method: str, path: str, read: Callable[[Mapping[str, Any]], Answer], **arguments: Any) -> Answer:
        response = self._response(method, path, **arguments)
        try:
            return read(response.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackendBroken(f"{path} answered what nobody understands") from error

    def _response(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            response = self._session.request(
                method, self.url + path, timeout=self._timeouts_s, allow_redirects=False, **arguments
            )
        except (requests.ConnectTimeout, requests.exceptions.InvalidURL) as error:
            raise BackendUnreachable(type(error).__name__) from error
        except requests.RequestException as error:
            raise BackendUnavailable(type(error).__name__) from error
        if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
            return response
        raise error_of(response)


def error_of(response: requests.Response) -> BackendError:
    """What an answer that is no success means."""
    try:
        error = response.json()["error"]
        kind, message = ERROR_OF.get(error["code"], BackendBroken), str(error["message"])
        if kind is PromptRefused and error.get("param") == "model":
            kind = OtherModel
    except (ValueError, KeyError, TypeError):
        kind, message = BackendUnavailable, ""  # not the backend: something in between
    retry_after = response.headers.get("Retry-After", "")
    return kind(message, float(retry_after) if retry_after.isdecimal() else None)


def read_status(document: Mapping[str, Any]) -> Status:
    """A status document of the backend."""
    return Status(
        model=document["model"],
        device=document["device"],
        is_ready=document["ready"],
        queued_jobs=document["queued_jobs"],
        running_jobs=document["running_jobs"],
    )


def read_jobs(document: Mapping[str, Any]) -> list[Job]:
    """A list of jobs of the backend."""
    return [read_job(job) for job in document["data"]]


def read_job(document: Mapping[str, Any]) -> Job:
    """A Job document of the backend."""
    return Job(
        id=document["id"],
        status=document["status"],
        request=JobRequest.model_validate(document["request"]),
        created_at=document["created_at"],
        position=document["position"],
        eta_s=document["eta_seconds"],
        progress=picked(Progress, document["progress"]) if document["progress"] else None,
        preview=document["preview"],
        unknown_words=tuple(document.get("unknown_words", ())),
        images=tuple(picked(Image, image) for image in document["images"]),
        error_code=document["error"]["code"] if document["error"] else None,
    )


def picked(kind: Callable[..., Answer], document: Mapping[str, Any]) -> Answer:
    """A record of what it has fields for; later backends may send more."""
    return kind(**{name: document[name] for name in inspect.signature(kind).parameters})

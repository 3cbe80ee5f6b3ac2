"""What a job is: one prompt that becomes one or more pictures. No torch, no HTTP."""

import re
import secrets
from dataclasses import dataclass, field
from typing import Literal, get_args

from backend_gpu.jobs.request import JobRequest

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
JOB_STATUSES: frozenset[JobStatus] = frozenset(get_args(JobStatus))
ENDED: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})
JOB_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class JobError:
    """Why a job failed."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the store knows it; times are seconds since 1970."""

    id: str
    request: JobRequest
    status: JobStatus
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    error: JobError | None = None
    is_delivered: bool = False  # whether its pictures are in the gallery
    request_id: str = ""  # of the HTTP request that submitted it
    unknown_words: tuple[str, ...] = ()  # of its prompts, which the model leaves out
    unreadable: str = ""  # why `request` is a stand-in for one that can't be read; such a job is never drawn

    @property
    def log_ids(self) -> dict[str, str]:
        """What every line of the log about this job has."""
        return {"job_id": self.id, "request_id": self.request_id}

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a running job is."""

    stage: str
    step: int  # done, of this stage
    total_steps: int
    fraction: float  # of the whole job, 0-1


@dataclass(frozen=True, kw_only=True)
class Live:
    """What is known of a running job and forgotten when it ends."""

    progress: Progress | None = None
    preview: bytes | None = field(default=None, repr=False)  # a small PNG of x_start


def new_job_id() -> str:
    """An id that nobody can guess."""
    return secrets.token_hex(16)

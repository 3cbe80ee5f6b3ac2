"""What a job is: one prompt that becomes one or more pictures. No torch, no HTTP."""

import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from backend_gpu.engine import Drawing, Settings
from backend_gpu.gallery import PictureRecord
from backend_gpu.glide.config import SamplerName, StageName

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
JOB_STATUSES: frozenset[JobStatus] = frozenset(get_args(JobStatus))
ENDED: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})
JOB_ID = re.compile(r"[0-9a-f]{32}")
OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_SEED = 2**32 - 1
MAX_PICTURES = 8  # of a job
MAX_STEPS = 250  # of a stage
MAX_PROMPT_CHARACTERS = 1000
MAX_NAME_CHARACTERS = 64  # of a model or a translator

PromptText = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]
StepCount = Annotated[int, Field(ge=1, le=MAX_STEPS)]


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What was asked for, with every choice made: running it again gives the same pictures.

    The limits and the configuration are for `from_json`: what is made here was checked before.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: PromptText  # English
    owner: Annotated[str, Field(pattern=f"^{OWNER.pattern}$")]
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]  # of the first picture; picture i has seed + i
    n: Annotated[int, Field(ge=1, le=MAX_PICTURES)]
    guidance_scale: float
    steps: StepCount
    upsample_steps: StepCount
    sampler: SamplerName
    upscale: bool
    model: Name  # the model's name, kotoe-mini or glide
    negative_prompt: PromptText = ""
    source_prompt: PromptText = ""  # as the user wrote it
    translator: Name = ""

    @property
    def batch_key(self) -> str:
        """Jobs with equal keys may share a batch."""
        return f"{self.model} {self.sampler} {self.steps} {self.upsample_steps if self.upscale else 0}"

    def seed_of(self, index: int) -> int:
        """The seed of picture `index`; after the largest seed comes 0."""
        return (self.seed + index) % (MAX_SEED + 1)

    def drawings(self) -> list[Drawing]:
        """The pictures, as an engine takes them."""
        return [
            Drawing(
                prompt=self.prompt,
                seed=self.seed_of(index),
                guidance_scale=self.guidance_scale,
                negative_prompt=self.negative_prompt,
            )
            for index in range(self.n)
        ]

    def batch_settings(self) -> Settings:
        """What these pictures share with others of the same batch key."""
        return Settings(
            sampler=self.sampler, steps=self.steps, upsample_steps=self.upsample_steps, upscale=self.upscale
        )

    def record(self, index: int, model_hash: str) -> PictureRecord:
        """What picture `index` tells about how it was made."""
        return PictureRecord(
            prompt=self.prompt,
            source_prompt=self.source_prompt,
            translator=self.translator,
            negative_prompt=self.negative_prompt,
            seed=self.seed_of(index),
            guidance_scale=self.guidance_scale,
            steps=self.steps,
            upsample_steps=self.upsample_steps,
            sampler=self.sampler,
            upscale=self.upscale,
            model=self.model,
            model_hash=model_hash,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)

    @staticmethod
    def from_json(text: str) -> "JobRequest":
        """Read the JSON of what `to_json` gave.

        Raises:
            UnreadableRequest: it is no JSON, or of another version of the service.
        """
        try:
            return STORED_REQUEST.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise UnreadableRequest(f"{place}: {first['msg']}" if place else first["msg"]) from error

    @staticmethod
    def stand_in(text: str, owner: object, n: object) -> "JobRequest":
        """What can be told of a request that can't be read: its texts, if there are any; never to be drawn."""
        try:
            fields = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            fields = None
        texts = fields if isinstance(fields, dict) else {}
        prompt, source_prompt = (
            text[:MAX_PROMPT_CHARACTERS].encode(errors="replace").decode() if isinstance(text, str) else ""
            for text in (texts.get("prompt"), texts.get("source_prompt"))
        )
        return JobRequest(
            prompt=prompt,
            source_prompt=source_prompt,
            owner=owner if isinstance(owner, str) and OWNER.fullmatch(owner) else "unknown",
            seed=0,
            n=n if isinstance(n, int) and 1 <= n <= MAX_PICTURES else 1,
            guidance_scale=1.0,
            steps=1,
            upsample_steps=1,
            sampler="ddim",
            upscale=True,
            model="",
        )


STORED_REQUEST = TypeAdapter(JobRequest)


class UnreadableRequest(ValueError):
    """A stored request that this version of the service can't read."""


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

    stage: StageName
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

"""What goes over HTTP on the native face, and errors on every face; the OpenAPI document is made of this."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend_gpu.jobs.job import JobStatus
from backend_gpu.jobs.request import JobSubmission


class Document(BaseModel):
    """Base of what is sent: it has just these fields."""

    model_config = ConfigDict(extra="forbid")


class JobRequestDocument(JobSubmission):
    """A submission with every choice made; sent again, it gives the same pictures."""

    # Not a submission's examples; and whatever a submission may leave out is always here
    model_config = ConfigDict(json_schema_extra={}, json_schema_serialization_defaults_required=True)

    prompt: Annotated[str, Field(description="English text of what is drawn")]
    n: Annotated[int, Field(description="number of pictures")]
    seed: Annotated[int, Field(description="of picture 0; picture i has seed + i")]
    guidance_scale: Annotated[float, Field(description="how closely the text is followed; 1 is no guidance")]
    steps: Annotated[int, Field(description="denoising steps of the first stage")]
    upsample_steps: Annotated[int | None, Field(description="of the second stage; null where the model has none")]
    sampler: Annotated[str, Field(description="how the steps are taken")]
    model: Annotated[str, Field(description="the model that draws")]


class ProgressDocument(Document):
    """How far a running job is."""

    stage: Annotated[str, Field(description="a stage of the model's description")]
    step: Annotated[int, Field(description="steps of this stage that are done")]
    total_steps: Annotated[int, Field(description="steps of this stage")]
    fraction: Annotated[float, Field(ge=0, le=1, description="of the whole job, by time")]


class ImageLink(Document):
    """One finished picture."""

    index: Annotated[int, Field(description="0 to n - 1")]
    seed: Annotated[int, Field(description="the seed of this very picture")]
    url: Annotated[str, Field(description="where the PNG is, relative to this service")]


class ErrorInfo(Document):
    """What went wrong and what to do."""

    message: Annotated[str, Field(description="for people")]
    type: Annotated[str, Field(description="class of error, as the OpenAI API names them")]
    param: Annotated[str | None, Field(description="the field at fault")]
    code: Annotated[str | None, Field(description="for programs")]


class ErrorDocument(Document):
    """Every answer that is not a success."""

    error: Annotated[ErrorInfo, Field(description="the only field")]


class JobDocument(Document):
    """A job as it is now. Times are seconds since 1970."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0123456789abcdef0123456789abcdef",
                    "status": "running",
                    "request": {
                        "prompt": "a red apple on a blue background",
                        "source_prompt": "青い背景に赤いりんご",
                        "translator": "offline",
                        "negative_prompt": "",
                        "n": 1,
                        "seed": 7,
                        "guidance_scale": 2.5,
                        "steps": 20,
                        "upsample_steps": 4,
                        "sampler": "dpmpp_2m",
                        "upscale": True,
                        "owner": "anonymous",
                        "model": "kotoe-mini",
                    },
                    "created_at": 1767225600.0,
                    "started_at": 1767225600.5,
                    "finished_at": None,
                    "position": None,
                    "eta_seconds": 0.8,
                    "progress": {"stage": "base", "step": 10, "total_steps": 20, "fraction": 0.4},
                    "preview": "data:image/png;base64,…",
                    "unknown_words": [],
                    "images": [],
                    "error": None,
                }
            ]
        },
    )

    id: Annotated[str, Field(description="32 hexadecimal digits")]
    status: Annotated[JobStatus, Field(description="succeeded, failed and cancelled are final")]
    request: Annotated[JobRequestDocument, Field(description="what was asked for")]
    created_at: Annotated[float, Field(description="when it was accepted")]
    started_at: Annotated[float | None, Field(description="when drawing began; null while queued")]
    finished_at: Annotated[float | None, Field(description="when it ended, whatever the end")]
    position: Annotated[int | None, Field(description="place in the queue, 1 is next; null unless queued")]
    eta_seconds: Annotated[
        float | None, Field(description="expected seconds until it has succeeded; null if unknown or ended")
    ]
    progress: Annotated[ProgressDocument | None, Field(description="null unless running")]
    preview: Annotated[str | None, Field(description="data URL of a small PNG of x_start while running")]
    unknown_words: Annotated[
        list[str], Field(description="words of both prompts that the model does not know and leaves out")
    ]
    images: Annotated[list[ImageLink], Field(description="the pictures; empty until it has succeeded")]
    error: Annotated[ErrorInfo | None, Field(description="why the job failed")]


class JobList(Document):
    """An owner's jobs, newest first."""

    object: Annotated[Literal["list"], Field(description="always list")] = "list"
    data: Annotated[list[JobDocument], Field(description="the jobs")]


class StatusDocument(Document):
    """What the service does now."""

    model: Annotated[str | None, Field(description="null while it is loading")]
    device: Annotated[str | None, Field(description="what it computes on; null while the model is loading")]
    ready: Annotated[bool, Field(description="the model has drawn its first step")]
    load_error: Annotated[str | None, Field(description="why the model could not be loaded so far")]
    queued_jobs: Annotated[int, Field(description="jobs that wait")]
    running_jobs: Annotated[int, Field(description="jobs that are drawn now")]
    idle_seconds: Annotated[float, Field(description="since work was done last; 0 while there is some")]
    seconds_per_picture: Annotated[float | None, Field(description="one picture alone, measured here")]


class HealthDocument(Document):
    """The process answers."""

    status: Annotated[Literal["ok"], Field(description="always ok: anything else is another status code")] = "ok"

"""What goes over HTTP on the native face; the OpenAPI page is made of this."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic_core import PydanticCustomError

from backend_gpu.jobs.job import MAX_PICTURES, MAX_SEED, MAX_STEPS, OWNER, JobStatus
from backend_gpu.plain_text import CONTROL, without_controls

RANDOM_SEED = -1  # as people who know other programs write it


def number(value: object) -> object:
    """Refuse what pydantic would take for a number although JSON has numbers of its own: texts, true and false."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


def one_seed(seed: int | None) -> int | None:
    """A seed, or None for a random one."""
    return None if seed == RANDOM_SEED else seed


def text(value: str) -> str:
    """A text without control characters: white space among them becomes a space, any other is refused."""
    for control in CONTROL.findall(value):
        if not control.isspace():
            raise PydanticCustomError(
                "control_character", f"Input should have no control character (U+{ord(control):04X})"
            )
    return without_controls(value)


Number = BeforeValidator(number)
Text = AfterValidator(text)
Prompt = Annotated[
    str,
    Field(min_length=1, max_length=1000, description="English text of what to draw", examples=["a red apple"]),
    Text,
]
NegativePrompt = Annotated[str, Field(max_length=1000, description="English text of what to stay away from"), Text]
SourcePrompt = Annotated[str, Field(max_length=1000, description="what the user typed, kept inside the picture"), Text]
Translator = Annotated[str, Field(max_length=64, description="what translated source_prompt"), Text]
Count = Annotated[int, Number, Field(ge=1, le=MAX_PICTURES, description="number of pictures")]
Seed = Annotated[
    Annotated[int, Number, Field(ge=RANDOM_SEED, le=MAX_SEED)] | None,
    AfterValidator(one_seed),
    Field(description="random if absent, null or -1; picture i uses seed + i"),
]
GuidanceScale = Annotated[
    Annotated[float, Number, Field(ge=1, le=20)] | None,
    Field(description="1 is no guidance; the model's own choice if absent"),
]
StepCount = Annotated[int, Number, Field(ge=1, le=MAX_STEPS)]
Steps = Annotated[StepCount | None, Field(description="denoising steps at 64x64; the model's choice if absent")]
UpsampleSteps = Annotated[
    StepCount | None, Field(description="denoising steps from 64x64 to 256x256; the model's choice if absent")
]
Owner = Annotated[
    str, Field(pattern=f"^{OWNER.pattern}$", description="whose job it is: an opaque name, one safe path segment")
]


class Model(BaseModel):
    """Strict base: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class JobSubmission(Model):
    """What to draw."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "a red apple on a blue background", "source_prompt": "青い背景に赤いりんご", "n": 2},
                {
                    "prompt": "a cat",
                    "negative_prompt": "a dog",
                    "seed": 7,
                    "steps": 30,
                    "sampler": "ddim",
                    "owner": "taro",
                },
            ]
        },
    )

    prompt: Prompt
    source_prompt: SourcePrompt = ""
    translator: Translator = ""
    negative_prompt: NegativePrompt = ""
    n: Count = 1
    seed: Seed = None
    guidance_scale: GuidanceScale = None
    steps: Steps = None
    upsample_steps: UpsampleSteps = None
    sampler: Annotated[str | None, Field(max_length=64, description="the model's choice if absent")] = None
    upscale: Annotated[StrictBool, Field(description="false: 64x64 pictures, without the upsampler")] = True
    owner: Owner = "anonymous"
    model: Annotated[
        str | None, Field(max_length=64, description="refused where another draws; no matter which if absent")
    ] = None


class JobRequestDocument(Model):
    """A submission with every choice made; sent again, it gives the same pictures."""

    prompt: Annotated[str, Field(description="English text of what is drawn")]
    source_prompt: SourcePrompt
    translator: Translator
    negative_prompt: NegativePrompt
    n: Annotated[int, Field(description="number of pictures")]
    seed: Annotated[int, Field(description="of picture 0; picture i has seed + i")]
    guidance_scale: Annotated[float, Field(description="how closely the text is followed; 1 is no guidance")]
    steps: Annotated[int, Field(description="denoising steps at 64x64")]
    upsample_steps: Annotated[int, Field(description="denoising steps from 64x64 to 256x256")]
    sampler: Annotated[str, Field(description="how the steps are taken")]
    upscale: Annotated[bool, Field(description="false: 64x64 pictures, without the upsampler")]
    owner: Owner
    model: Annotated[str, Field(description="the model that draws")]


class ProgressDocument(Model):
    """How far a running job is."""

    stage: Annotated[str, Field(description="a stage of the model's description")]
    step: Annotated[int, Field(description="steps of this stage that are done")]
    total_steps: Annotated[int, Field(description="steps of this stage")]
    fraction: Annotated[float, Field(ge=0, le=1, description="of the whole job, by time")]


class ImageLink(Model):
    """One finished picture."""

    index: Annotated[int, Field(description="0 to n - 1")]
    seed: Annotated[int, Field(description="the seed of this very picture")]
    url: Annotated[str, Field(description="where the PNG is, relative to this service")]


class ErrorInfo(Model):
    """What went wrong and what to do."""

    message: Annotated[str, Field(description="for people")]
    type: Annotated[str, Field(description="class of error, as the OpenAI API names them")]
    param: Annotated[str | None, Field(description="the field at fault")]
    code: Annotated[str | None, Field(description="for programs")]


class ErrorDocument(Model):
    """Every answer that is not a success."""

    error: Annotated[ErrorInfo, Field(description="the only field")]


class JobDocument(Model):
    """A job as it is now. Times are seconds since 1970."""

    model_config = ConfigDict(
        extra="forbid",
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


class JobList(Model):
    """An owner's jobs, newest first."""

    object: Annotated[Literal["list"], Field(description="always list")] = "list"
    data: Annotated[list[JobDocument], Field(description="the jobs")]


class StatusDocument(Model):
    """What the service does now."""

    model: Annotated[str | None, Field(description="null while it is loading")]
    device: Annotated[str | None, Field(description="what it computes on; null while the model is loading")]
    ready: Annotated[bool, Field(description="the model has drawn its first step")]
    load_error: Annotated[str | None, Field(description="why the model could not be loaded so far")]
    queued_jobs: Annotated[int, Field(description="jobs that wait")]
    running_jobs: Annotated[int, Field(description="jobs that are drawn now")]
    idle_seconds: Annotated[float, Field(description="since work was done last; 0 while there is some")]
    seconds_per_picture: Annotated[float | None, Field(description="one picture alone, measured here")]


class HealthDocument(Model):
    """The process answers."""

    status: Annotated[Literal["ok"], Field(description="always ok: anything else is another status code")] = "ok"

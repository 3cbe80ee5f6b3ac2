"""What goes over HTTP on OpenAI's face."""

import base64
import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from backend_gpu.api.encoding import QUALITY, Encoding, ImageFormat
from backend_gpu.engine import EngineInfo
from backend_gpu.jobs.request import (
    Count,
    GuidanceScale,
    JobSubmission,
    NegativePrompt,
    Number,
    Prompt,
    Sampler,
    Seed,
    SourcePrompt,
    Steps,
    UpsampleSteps,
)

URL_MODELS = (None, "dall-e-2", "dall-e-3")  # whose clients expect URLs unless they ask for base64
Size = Literal["auto", "64x64", "256x256", "512x512", "1024x1024"]
STEPS_SHARE = {  # of the first stage's own number
    "low": 0.5,
    "standard": 1.0,
    "medium": 1.0,
    "auto": 1.0,
    "high": 2.0,
    "hd": 2.0,
    "xhigh": 3.0,
    "max": 3.0,
}
RESPONSE_FORMAT = "if absent: url for dall-e-2, dall-e-3 and no model at all, b64_json for all others"
Quality = Literal["auto", "low", "medium", "standard", "high", "hd", "xhigh", "max"]


class ImageGeneration(BaseModel):
    """What OpenAI's clients send; fields of theirs that mean nothing here are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"prompt": "a red apple on a blue background", "size": "256x256", "seed": 7},
                {"prompt": "a cat", "model": "gpt-image-1", "n": 2, "response_format": "url", "output_format": "webp"},
                {"prompt": "a cat", "stream": True, "partial_images": 2, "user": "taro"},
            ]
        },
    )

    prompt: Prompt
    model: Annotated[str | None, Field(description="a name of GET /v1/models: what runs is what answers")] = None
    n: Annotated[Count | None, Field(description="number of pictures")] = None
    size: Annotated[Size | None, Field(description="auto is the model's largest; others are resampled")] = None
    quality: Annotated[Quality | None, Field(description="scales the model's own number of steps")] = None
    response_format: Annotated[Literal["url", "b64_json"] | None, Field(description=RESPONSE_FORMAT)] = None
    output_format: Annotated[ImageFormat | None, Field(description="png if absent; each holds how it was made")] = None
    output_compression: Annotated[
        Annotated[int, Number, Field(ge=0, le=100)] | None, Field(description="quality of webp and jpeg")
    ] = None
    stream: Annotated[StrictBool | None, Field(description="Server-Sent Events instead of one answer")] = None
    partial_images: Annotated[
        Annotated[int, Number, Field(ge=0, le=3)] | None, Field(description="previews in the stream")
    ] = None
    user: Annotated[str | None, Field(max_length=512, description="whose job it is; kept as a hash")] = None
    safety_identifier: Annotated[str | None, Field(max_length=512, description="like user")] = None
    seed: Seed = None
    steps: Steps = None
    upsample_steps: UpsampleSteps = None
    guidance_scale: GuidanceScale = None
    negative_prompt: Annotated[NegativePrompt | None, Field(description="what to stay away from")] = None
    sampler: Sampler = None
    source_prompt: Annotated[SourcePrompt | None, Field(description="what the user typed, kept in the picture")] = None

    @property
    def wants_urls(self) -> bool:
        """Of the pictures, instead of the pictures themselves."""
        return self.response_format == "url" or (self.response_format is None and self.model in URL_MODELS)

    @property
    def asked_side(self) -> int | None:
        """Of the pictures, in pixels; None: as large as the model draws."""
        return None if self.size in (None, "auto") else int(self.size.partition("x")[0])

    def encoding(self, info: EngineInfo) -> Encoding:
        """How the pictures are sent."""
        return Encoding(
            image_format=self.output_format or "png",
            side=self.asked_side or max(stage.side for stage in info.stages),
            quality=QUALITY if self.output_compression is None else self.output_compression,
        )

    @property
    def owner(self) -> str:
        """Whose job it is, told apart by what the caller says and kept as a hash."""
        name = self.safety_identifier or self.user
        return hashlib.sha256(name.encode()).hexdigest()[:32] if name else "openai"

    def submission(self, info: EngineInfo) -> JobSubmission:
        """The same as a job, without the last stage where the one before draws large enough."""
        sides = [stage.side for stage in info.stages]
        side = self.asked_side or max(sides)
        scaled = round(info.stages[0].steps * STEPS_SHARE[self.quality or "auto"])
        fields = self.model_dump(include=set(JobSubmission.model_fields) - {"model"}, exclude_none=True)
        upscale = len(sides) == 1 or side > sides[-2]
        return JobSubmission(**{"steps": scaled} | fields | {"upscale": upscale, "owner": self.owner})

    def sent_as(self, encoding: Encoding) -> dict[str, Any]:
        """What every answer says about its pictures."""
        return {
            "output_format": encoding.image_format,
            "quality": self.quality or "auto",
            "size": f"{encoding.side}x{encoding.side}",
        }


class GeneratedImage(BaseModel):
    """One picture."""

    b64_json: Annotated[str | None, Field(description="the picture, if asked for so")] = None
    url: Annotated[str | None, Field(description="where it can be fetched, if asked for so; good for an hour")] = None
    revised_prompt: Annotated[str, Field(description="the English that was drawn")]
    seed: Annotated[int, Field(description="send it to get this picture again")]


class Usage(BaseModel):
    """Counts that clients expect."""

    input_tokens: Annotated[int, Field(description="always 0: nothing is billed")] = 0
    output_tokens: Annotated[int, Field(description="always 0")] = 0
    total_tokens: Annotated[int, Field(description="always 0")] = 0
    input_tokens_details: Annotated[dict[str, int], Field(description="always zeros")] = {  # pydantic copies it
        "image_tokens": 0,
        "text_tokens": 0,
    }


class ImagesResponse(BaseModel):
    """All pictures at once."""

    created: Annotated[int, Field(description="when the job was accepted, seconds since 1970")]
    background: Annotated[Literal["opaque"], Field(description="always opaque")] = "opaque"
    output_format: Annotated[ImageFormat, Field(description="of the pictures sent")]
    quality: Annotated[Quality, Field(description="as asked for")]
    size: Annotated[str, Field(description="of the pictures sent")]
    usage: Annotated[Usage, Field(description="always zeros")] = Usage()
    unknown_words: Annotated[list[str], Field(description="words that the model does not know and left out")]
    data: Annotated[list[GeneratedImage], Field(description="the pictures")]


def as_b64(content: bytes) -> str:
    """Base64 as JSON carries it."""
    return base64.b64encode(content).decode("ascii")

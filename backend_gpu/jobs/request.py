"""What was asked for: as a caller sends it, and with every choice made. No torch, no HTTP.

A new field goes into both classes here; where the engine needs it, also into its `Drawing` or `BatchSettings`.
"""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic_core import PydanticCustomError

from backend_gpu.engine import BatchSettings, Drawing, EngineInfo, Stage
from backend_gpu.errors import BadParameter
from backend_gpu.plain_text import CONTROL, without_controls

OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_SEED = 2**32 - 1
MAX_PICTURES = 8  # of a job
MAX_STEPS = 250  # of a stage
MAX_PROMPT_CHARACTERS = 1000
MAX_NAME_CHARACTERS = 64  # of a model, a sampler or a translator
RANDOM_SEED = -1  # as people who know other programs write it


def number(value: object) -> object:
    """Refuse what pydantic would take for a number although JSON has numbers of its own: texts, true and false."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


def one_seed(seed: int | None) -> int | None:
    """A seed, or None for a random one."""
    return None if seed == RANDOM_SEED else seed


def checked_text(value: str) -> str:
    """A text without control characters: white space among them becomes a space, any other is refused."""
    for control in CONTROL.findall(value):
        if not control.isspace():
            raise PydanticCustomError(
                "control_character", f"Input should have no control character (U+{ord(control):04X})"
            )
    return without_controls(value)


Number = BeforeValidator(number)
CheckedText = AfterValidator(checked_text)
PromptText = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]
Prompt = Annotated[
    PromptText, Field(min_length=1, description="English text of what to draw", examples=["a red apple"]), CheckedText
]
NegativePrompt = Annotated[PromptText, Field(description="English text of what to stay away from"), CheckedText]
SourcePrompt = Annotated[PromptText, Field(description="what the user typed, kept inside the picture"), CheckedText]
Translator = Annotated[Name, Field(description="what translated source_prompt"), CheckedText]
Count = Annotated[int, Number, Field(ge=1, le=MAX_PICTURES, description="number of pictures")]
Seed = Annotated[
    Annotated[int, Number, Field(ge=RANDOM_SEED, le=MAX_SEED)] | None,
    AfterValidator(one_seed),
    Field(description="random if absent, null or -1; picture i uses seed + i"),
]
GuidanceScale = Annotated[
    Annotated[float, Number, Field(ge=1, allow_inf_nan=False)] | None,
    Field(description="1 is no guidance; the model's description has its range; its own choice if absent"),
]
StepCount = Annotated[int, Field(ge=1, le=MAX_STEPS)]
StepsField = Literal["steps", "upsample_steps"]
STEPS_FIELDS: tuple[StepsField, ...] = get_args(StepsField)  # in the order of the stages whose steps they set
Steps = Annotated[
    Annotated[StepCount, Number] | None,
    Field(description="denoising steps of the first stage; the model's choice if absent"),
]
UpsampleSteps = Annotated[
    Annotated[StepCount, Number] | None,
    Field(description="likewise of the second stage, where there is one"),
]
Sampler = Annotated[Name | None, Field(description="one that the model has; its choice if absent")]
Upscale = Annotated[StrictBool, Field(description="false: small pictures, without the second of two stages")]
Owner = Annotated[
    str, Field(pattern=f"^{OWNER.pattern}$", description="whose job it is: an opaque name, one safe path segment")
]


class JobSubmission(BaseModel):
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
    sampler: Sampler = None
    upscale: Upscale = True
    owner: Owner = "anonymous"
    model: Annotated[Name | None, Field(description="refused where another draws; no matter which if absent")] = None


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A submission with every choice made: running it again gives the same pictures.

    The limits and the configuration are for `from_json`: what is made here was checked before.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: PromptText  # English
    source_prompt: PromptText = ""  # as the user wrote it
    translator: Name = ""
    negative_prompt: PromptText = ""
    owner: Annotated[str, Field(pattern=f"^{OWNER.pattern}$")]
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]  # of the first picture; picture i has seed + i
    n: Annotated[int, Field(ge=1, le=MAX_PICTURES)]
    guidance_scale: float  # 1: none
    steps: StepCount  # of the first stage
    upsample_steps: StepCount | None  # of the second one; None where the model has none
    sampler: Name
    upscale: bool  # False: the second stage is left out
    model: Name  # the model's name, kotoe-mini or glide

    @staticmethod
    def of(submission: JobSubmission, info: EngineInfo) -> "JobRequest":
        """A submission with the model's choices where the caller made none.

        Raises:
            BadParameter: it is for another model, or asks for what this one does not take.
        """
        check_choices(submission, info)
        steps, upsample_steps = (*(stage.steps for stage in info.stages), None)[:2]
        chosen = {
            "seed": secrets.randbelow(MAX_SEED + 1),
            "guidance_scale": info.guidance_scale,
            "steps": steps,
            "upsample_steps": upsample_steps,
            "sampler": info.samplers[0],
            "model": info.model,
        }
        return JobRequest(**chosen | submission.model_dump(exclude_none=True))

    def seed_of(self, index: int) -> int:
        """The seed of picture `index`; after the largest seed comes 0."""
        return (self.seed + index) % (MAX_SEED + 1)

    def steps_of(self, stages: Sequence[Stage]) -> dict[str, int]:
        """The steps of each of the model's stages that is run, in their order."""
        run = stages if self.upscale or len(stages) == 1 else stages[:-1]
        return {
            stage.name: steps for stage, steps in zip(run, (self.steps, self.upsample_steps), strict=False) if steps
        }

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

    def batch_settings(self, info: EngineInfo) -> BatchSettings:
        """What these pictures share with the others of their batch."""
        return BatchSettings(sampler=self.sampler, steps=self.steps_of(info.stages))

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
        except PydanticError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise UnreadableRequest(f"{place}: {first['msg']}" if place else first["msg"]) from error

    @staticmethod
    def stand_in(text: str, owner: object, n: object) -> "JobRequest":
        """What is known of a request that can't be read: its texts, if there are any; never to be drawn."""
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


def check_choices(submission: JobSubmission, info: EngineInfo) -> None:
    """See that a model takes what a caller has chosen.

    Raises:
        BadParameter: it does not; the message says what it takes.
    """
    model, guidance, scale = info.model, info.guidance, submission.guidance_scale
    if submission.model not in (None, model):
        raise BadParameter(f"there is no model {submission.model!r} here: use {model}", "model")
    if submission.sampler not in (None, *info.samplers):
        raise BadParameter(f"sampler: {model} has no {submission.sampler!r}: use {', '.join(info.samplers)}", "sampler")
    if submission.upsample_steps is not None and len(info.stages) == 1:
        raise BadParameter(f"upsample_steps: {model} draws in one stage: leave it out", "upsample_steps")
    if submission.negative_prompt and not info.has_negative_prompt:
        raise BadParameter(f"negative_prompt: {model} takes none: leave it out", "negative_prompt")
    if guidance is None and scale not in (None, 1):
        raise BadParameter(f"guidance_scale: {model} takes no guidance: leave it out", "guidance_scale")
    if guidance is not None and scale is not None and not guidance.least <= scale <= guidance.most:
        raise BadParameter(
            f"guidance_scale: must be {guidance.least:g} to {guidance.most:g}, not {scale:g}", "guidance_scale"
        )
